"""Share a machine's GPUs among jobs that no scheduler keeps apart: each takes free ones and keeps them to its end."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from video_vae.errors import UserError

TIMEOUT_SECONDS = 600.0
"""A job that started too early waits so long for one that is about to end."""


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES writes them; none where there are none."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def acquire_gpus(
    wanted: int, gpus: Sequence[str], folder: Path | None = None, timeout: float = TIMEOUT_SECONDS
) -> list[str]:
    """Take GPUs that no other job of this user holds, until this process and all that it starts have ended.

    Raises:
        UserError: if there are fewer GPUs than wanted, or not enough come free in time (seconds).
    """
    if wanted > len(gpus):
        raise UserError(f"{wanted} GPUs wanted, {len(gpus)} visible; lower the rule's `gpu` and `ranks` in the profile")
    folder = folder or Path(tempfile.gettempdir(), f"video-vae-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    until = time.monotonic() + timeout
    while True:
        held = _held(wanted, gpus, folder)
        if len(held) == wanted:
            for descriptor in held.values():
                os.set_inheritable(descriptor, True)
            return list(held)
        # Half a set is given back: two jobs that wait for each other's half would wait forever.
        for descriptor in held.values():
            os.close(descriptor)
        if time.monotonic() > until:
            raise UserError(
                f"{wanted} of {len(gpus)} GPUs were not free within {timeout:.0f} s; "
                "set `resources: gpu=` in the profile to the number that this machine has"
            )
        time.sleep(0.2)


def _held(wanted: int, gpus: Sequence[str], folder: Path) -> dict[str, int]:
    """Lock up to so many GPUs that are free; return their open lock files."""
    held: dict[str, int] = {}
    for gpu in gpus:
        if len(held) == wanted:
            break
        descriptor = os.open(folder / f"{gpu.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            held[gpu] = descriptor
    return held
