"""Metrics of pixel values, a frame at a time: MSE, PSNR, SSIM; and flicker between frames.

All take `real` and `generated` as float (T,3,H,W) in [0,1] and return float64, one value a frame (or frame pair).
"""

from __future__ import annotations

import torch
from torch import Tensor

PSNR_CAP = 100.0
"""PSNR of (nearly) identical frames, in dB."""
PSNR_FLOOR = 1e-10
"""Mean squared error below which PSNR is capped."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


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
        if frames.numel() and not frames.requires_grad:
            low, high = (float(value) for value in torch.aminmax(frames))
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


def ssim(real: Tensor, generated: Tensor) -> Tensor:
    """Return the SSIM of each frame, (T,), (Wang et al. 2004): Gaussian 11x11, sigma 1.5, valid region, mean over RGB.

    Covariances are biased, the data range is 1. Frames must measure at least 11 pixels on each side.
    """
    check_frames(real, generated)
    if min(real.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW} pixels, not {tuple(real.shape[-2:])}")
    if real.device.type != "cpu":
        return _ssim_planes(real.float(), generated.float())
    # One frame at a time stays in the cache of a core: three times as fast as all at once.
    scores = [_ssim_planes(a, b) for a, b in zip(real.float().split(1), generated.float().split(1), strict=True)]
    return torch.cat(scores) if scores else real.new_zeros(0, dtype=torch.float64)


def _taps() -> list[float]:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    return [float(weight) for weight in weights / weights.sum()]


def _blur(values: Tensor, dim: int) -> Tensor:
    """Filter along one dimension, valid region: shifted sums, faster than a depthwise convolution on a CPU."""
    taps, size = _taps(), values.shape[dim] - WINDOW + 1
    total = values.narrow(dim, 0, size) * taps[0]
    for offset, tap in enumerate(taps[1:], 1):
        total.add_(values.narrow(dim, offset, size), alpha=tap)
    return total


def _ssim_planes(real: Tensor, generated: Tensor) -> Tensor:
    """Score frames through their sum and difference, which need four filterings instead of five.

    With s = x + y and d = x - y: 4 x y = s^2 - d^2 and 2 (x^2 + y^2) = s^2 + d^2, for means as for variances. The
    sum is centred around zero, so that single precision loses nothing where variances are differences of moments.
    """
    parts = torch.stack([real + generated - 1.0, real - generated])
    moments = _blur(_blur(torch.cat([parts, parts.square()]), -2), -1)
    means, variances = moments[:2], moments[2:]
    squares = means.square()
    variances.sub_(squares)
    sum_squared, difference_squared = squares[0].add_(means[0], alpha=2.0).add_(1.0), squares[1]
    luminance = _ratio(sum_squared, difference_squared, C1)
    structure = _ratio(variances[0], variances[1], C2)
    return _frame_mean(luminance.mul_(structure))


def _ratio(total: Tensor, difference: Tensor, constant: float) -> Tensor:
    """Return (2 x y + c) / (x^2 + y^2 + c) from (x + y)^2 and (x - y)^2."""
    numerator = (total - difference).mul_(0.5).add_(constant)
    return numerator.div_((total + difference).mul_(0.5).add_(constant))
