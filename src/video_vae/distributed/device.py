"""Choose where a command computes."""

from __future__ import annotations

import os

import torch

from video_vae.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into this rank's device; `auto` takes the GPU where there is one.

    Raises:
        UserError: if the device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used ({str(error).splitlines()[0]}); take cpu or cuda") from None
    return device
