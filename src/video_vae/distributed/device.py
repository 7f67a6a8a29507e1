"""Choose where a command computes."""

from __future__ import annotations

import os

import torch

from video_vae.errors import UserError


def set_tf32(allowed: bool) -> None:
    """Let a GPU round the factors of fp32 products to 10 bits (TF32), or not.

    Convolutions do so unless told not to, and fp32 numbers then differ between GPU and CPU from the third digit on.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def pick_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into this rank's device; `auto` takes the GPU where there is one. fp32 means fp32.

    Raises:
        UserError: if the device does not exist.
    """
    set_tf32(False)
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
