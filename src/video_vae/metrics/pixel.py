"""Metrics of single pixels, a frame at a time: MSE and PSNR; and flicker between frames.

All take `real` and `generated` as float (T,3,H,W) in [0,1] and return float64, one value per frame (or frame pair).
"""

from __future__ import annotations

import torch
from torch import Tensor

PSNR_CAP = 100.0
"""PSNR of (nearly) identical frames, in dB."""
PSNR_FLOOR = 1e-10
"""Mean squared error below which PSNR is capped."""


def check_frames(real: Tensor, generated: Tensor) -> None:
    """Refuse what is not a pair of float (T,3,H,W) videos in [0,1] (reconstructions may overshoot a little).

    Raises:
        ValueError: for other shapes, types or ranges such as [-1,1] or [0,255].
    """
    if real.shape != generated.shape or real.ndim != 4 or real.shape[1] != 3:
        raise ValueError(f"metrics compare two (T,3,H,W) videos, not {tuple(real.shape)} and {tuple(generated.shape)}")
    for name, frames in (("real", real), ("generated", generated)):
        if not frames.is_floating_point():
            raise ValueError(f"{name} must be float in [0,1], not {frames.dtype}")
        if frames.numel():
            low, high = (float(value) for value in torch.aminmax(frames.detach()))
            if low < -0.5 or high > 1.5:
                raise ValueError(f"{name} must lie in [0,1], not [{low:.3g},{high:.3g}]")


def _frame_mean(values: Tensor) -> Tensor:
    """Average each frame of (T,C,H,W): rows in single precision, rows together in double, (T,)."""
    return values.sum(dim=-1).double().mean(dim=(1, 2)) / values.shape[-1]


def mse(real: Tensor, generated: Tensor) -> Tensor:
    """Return the mean squared error of each frame, (T,)."""
    check_frames(real, generated)
    return _frame_mean((real - generated).square_())


def psnr_from_mse(error: Tensor) -> Tensor:
    """Turn mean squared errors (data range 1) into PSNR in dB, capped at 100 where the error is below 1e-10."""
    decibels = -10.0 * torch.log10(error.double().clamp_min(PSNR_FLOOR))
    return torch.where(error < PSNR_FLOOR, torch.full_like(decibels, PSNR_CAP), decibels)


def psnr(real: Tensor, generated: Tensor) -> Tensor:
    """Return the PSNR of each frame in dB, (T,); 100 where the mean squared error is below 1e-10."""
    return psnr_from_mse(mse(real, generated))


def flicker(real: Tensor, generated: Tensor) -> Tensor:
    """Return how differently the two change from frame to frame, (T-1,), in 8-bit grey levels.

    The mean over pixels and colours of 255 |(generated[t+1] - generated[t]) - (real[t+1] - real[t])|: zero for a
    constant error, however large, and high where the error jumps between frames.
    """
    check_frames(real, generated)
    error = generated - real
    return _frame_mean((error[1:] - error[:-1]).abs_()) * 255.0
