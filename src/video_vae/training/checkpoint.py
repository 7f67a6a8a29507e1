"""Resume checkpoints: whole or absent on disk, verified when read, the newest few kept.

A checkpoint is a folder `step-000001234` with `state.safetensors` (all tensors) and `state.json` (step, counters and
the sha256 of the tensors). It is written aside, flushed and renamed. Pickles are never involved.

Where ranks share out the optimizer's state, each of the others writes its part in the same way, as
`step-000001234.rank-0003`; the checkpoint is whole once all parts of one writing are there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from video_vae.errors import UserError
from video_vae.files import atomic_path, clear_scratch, remove_written, sha256_file
from video_vae.provenance import canonical_json

log = logging.getLogger(__name__)

FORMAT = 1
TIMEOUT_SECONDS = 60.0
"""A training waits so long for one that was told to end and is saving."""
TENSORS = "state.safetensors"
NOTE = "state.json"
LOCK = "lock"
_NAME = re.compile(r"step-(\d{9,})")
_ANY_PART = re.compile(r"step-(\d{9,})(\.rank-\d{4,})?")


class BrokenCheckpointError(Exception):
    """A checkpoint on disk is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a rank writes of a checkpoint that several ranks write."""

    rank: int
    ranks: int
    """Number of parts."""
    writing: str
    """The same in all parts that belong together, and in no others."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a checkpoint holds."""

    step: int
    """Steps taken."""
    tensors: dict[str, Tensor]
    """Weights, averages and optimizer state, by name."""
    values: dict[str, Any]
    """Counters and other JSON-like values."""
    part: Part | None = None
    """Which part this is; None where it is the whole."""


class CheckpointStore:
    """Save and find the checkpoints of one training, told by its fingerprint.

    Args:
        folder: of this training alone.
        fingerprint: of everything that shapes the training; checkpoints with another one are refused.
        keep: number of newest checkpoints to keep.
    """

    def __init__(self, folder: Path, fingerprint: str, keep: int) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.keep = keep

    @contextmanager
    def locked(self, timeout: float = TIMEOUT_SECONDS) -> Iterator[None]:
        """Lock the folder against other processes, and remove what a killed one left half written.

        Raises:
            UserError: if another process trains here and does not end in time (seconds).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as stream:
            try:
                self._lock(stream, timeout)
                stream.truncate(0)
                stream.write(f"{socket.gethostname()}:{os.getpid()}\n")  # for who wonders whether it still runs
                stream.flush()
            except OSError as error:
                log.warning("%s cannot be locked (%s): do not start the same training twice", self.folder, error)
            clear_scratch(self.folder)
            yield

    def _lock(self, stream: TextIO, timeout: float) -> None:
        until = time.monotonic() + timeout
        waiting = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise UserError(f"another process trains in {self.folder}; wait for it or stop it") from None
            if not waiting:
                log.info("another process trains in %s: waiting %.0f s for its end", self.folder, timeout)
                waiting = True
            time.sleep(0.2)

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints present, ascending; what they hold is not looked at."""
        matches = (_NAME.fullmatch(part.name) for part in self.folder.glob("step-*"))
        return sorted(int(match.group(1)) for match in matches if match)

    def path(self, step: int, rank: int = 0) -> Path:
        """Return the folder of a step's checkpoint, or of another rank's part of it."""
        return self.folder / (f"step-{step:09d}.rank-{rank:04d}" if rank else f"step-{step:09d}")

    def save(self, state: State) -> Path:
        """Write a checkpoint and `prune`, or write a part of one: whoever knows that all are written prunes then."""
        target = self.path(state.step, state.part.rank if state.part else 0)
        with atomic_path(target, known=True) as aside:
            aside.mkdir()
            tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
            save_file(tensors, aside / TENSORS)
            note = {
                "format": FORMAT,
                "fingerprint": self.fingerprint,
                "step": state.step,
                "values": state.values,
                "sha256": sha256_file(aside / TENSORS),
            } | ({"part": asdict(state.part)} if state.part else {})
            (aside / NOTE).write_text(json.dumps({"note": note, "check": _check(note)}) + "\n", encoding="utf-8")
        if state.part is None:
            self.prune(state.step)
        return target

    def prune(self, step: int) -> None:
        """Drop what is older than the newest few up to a step, and later steps (which a fallback left behind)."""
        self._drop_but([earlier for earlier in self.steps() if earlier <= step][-self.keep :])

    def _drop_but(self, kept: Collection[int]) -> None:
        for folder in sorted(self.folder.glob("step-*")):  # the first rank's part first
            match = _ANY_PART.fullmatch(folder.name)
            if match and int(match[1]) not in kept:
                remove_written(folder, (TENSORS, NOTE))

    def remove(self) -> None:
        """Remove all checkpoints, and the folder if nothing else lies in it."""
        self._drop_but(())
        remove_written(self.folder, [LOCK])

    def load(self, step: int, device: torch.device | str = "cpu") -> State:
        """Read a checkpoint, all of its parts.

        Raises:
            BrokenCheckpointError: if anything in it differs from what was written, or it is another training's.
        """
        note, tensors = self._read(self.path(step), device)
        for rank in range(1, note["part"]["ranks"] if "part" in note else 1):
            other, more = self._read(self.path(step, rank), device)
            if other["part"]["writing"] != note["part"]["writing"]:
                raise BrokenCheckpointError(f"{self.path(step, rank)} is left from an earlier writing of this step")
            tensors |= more
        return State(step=note["step"], tensors=tensors, values=note["values"])

    def _read(self, folder: Path, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        note = self._note(folder)
        try:
            if sha256_file(folder / TENSORS) != note["sha256"]:
                raise BrokenCheckpointError(f"{folder / TENSORS} does not match its sha256")
            return note, load_file(folder / TENSORS, device=str(device))
        except OSError as error:
            raise BrokenCheckpointError(f"{folder / TENSORS}: {error.strerror or error}") from None

    def _note(self, folder: Path) -> dict[str, Any]:
        try:
            content = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            note: dict[str, Any] = content["note"]
            intact = content["check"] == _check(note)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BrokenCheckpointError(f"{folder / NOTE}: {type(error).__name__}: {error}") from None
        if not intact:
            raise BrokenCheckpointError(f"{folder / NOTE} does not match its checksum")
        if note["format"] != FORMAT or note["fingerprint"] != self.fingerprint:
            raise BrokenCheckpointError(f"{folder} belongs to another training ({note['fingerprint']})")
        return note

    def newest(self, device: torch.device | str = "cpu") -> State | None:
        """Read the newest checkpoint that is whole; report each broken one and go to the one before it."""
        for step in reversed(self.steps()):
            try:
                return self.load(step, device)
            except BrokenCheckpointError as error:
                log.warning("checkpoint of step %d is not usable, the one before it is taken: %s", step, error)
        return None


def _check(note: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(note).encode()).hexdigest()


def optimizer_tensors(state: Mapping[str, Any], names: list[str]) -> dict[str, Tensor]:
    """Flatten an optimizer's state dict: `optimizer.<parameter>.<entry>` -> tensor.

    Args:
        state: its `state_dict()`, parameters in the order of `names`.
        names: of the parameters.
    """
    return {
        f"optimizer.{names[index]}.{entry}": torch.as_tensor(value)
        for index, entries in state["state"].items()
        for entry, value in entries.items()
    }


def optimizer_state(tensors: Mapping[str, Tensor], names: list[str], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Rebuild an optimizer's state dict from what `optimizer_tensors` gave; `groups` are its parameter groups."""
    places = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, _, entry = key.removeprefix("optimizer.").rpartition(".")
            state.setdefault(places[name], {})[entry] = value
    return {"state": state, "param_groups": groups}
