"""Structural similarity (Wang et al. 2004), exact and fast on many cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from video_vae.metrics.pixel import check_frames

WINDOW, SIGMA = 11, 1.5
EDGE = WINDOW // 2
C1, C2 = 0.01**2, 0.03**2


def ssim(real: Tensor, generated: Tensor) -> Tensor:
    """Return the SSIM of each frame, float (T,3,H,W) in [0,1] -> (T,), float64.

    Gaussian window 11x11, sigma 1.5, valid region, biased covariance, data range 1, mean over RGB.

    Raises:
        ValueError: if the frames are not of one shape and in [0,1], or smaller than 11 pixels.
    """
    check_frames(real, generated)
    if min(real.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW} pixels, not {tuple(real.shape[-2:])}")
    if not len(real):
        return real.new_zeros(0, dtype=torch.float64)
    first, second = (frames.detach().float().flatten(0, 1) for frames in (real, generated))
    scores = _on_cores(first, second) if real.device.type == "cpu" else _Workspace(first).score(first, second)
    return scores.view(-1, 3).mean(dim=1)


def _on_cores(first: Tensor, second: Tensor) -> Tensor:
    """Score planes one by one, which then stay in the cache of a core, on as many threads as torch may use."""
    threads = torch.get_num_threads()
    pairs = list(zip(first.split(1), second.split(1), strict=True))

    def share(start: int) -> list[Tensor]:
        """Score every so many-th pair of planes."""
        work = _Workspace(first[:1])
        return [work.score(*pair) for pair in pairs[start::threads]]

    scores = first.new_empty(len(pairs), dtype=torch.float64)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for start, part in enumerate(pool.map(share, range(min(threads, len(pairs))))):
            scores[start::threads] = torch.cat(part)
    torch.set_num_threads(threads)  # the threads above left torch's default for further threads at one
    return scores


class _Workspace:
    """Memory for the SSIM of planes (N,H,W), used over and over: fresh memory for each step costs half the time."""

    def __init__(self, like: Tensor) -> None:
        count, height, width = like.shape
        self.parts = like.new_empty(4, count, height, width)
        self.moments = like.new_empty(4, count, height, width)
        self.squares = like.new_empty(2, count, height - 2 * EDGE, width)

    def score(self, first: Tensor, second: Tensor) -> Tensor:
        """Score planes through their sum and difference, which need four filterings instead of five: (N,), float64.

        With s = x + y and d = x - y: 4 x y = s^2 - d^2 and 2 (x^2 + y^2) = s^2 + d^2, for means as for variances. The
        sum is centred around zero while variances are taken, so that single precision is enough.
        """
        parts, squares = self.parts, self.squares
        torch.add(first, second, out=parts[0]).sub_(1.0)
        torch.sub(first, second, out=parts[1])
        torch.mul(parts[:2], parts[:2], out=parts[2:])
        _filter(parts.flatten(0, 1), self.moments.flatten(0, 1))
        moments = self.moments[:, :, EDGE:-EDGE]
        means, variances = moments[:2], moments[2:]
        torch.mul(means, means, out=squares)
        variances.sub_(squares)
        sums = means[0].add_(1.0)
        torch.mul(sums, sums, out=squares[0])
        above, below = _ratio(squares, means[0], C1)
        above_variance, below_variance = _ratio(variances, means[1], C2)
        scores = above.mul_(above_variance).div_(below.mul_(below_variance))[..., EDGE:-EDGE]
        return scores.sum(dim=-1).double().mean(dim=1) / scores.shape[-1]


def _ratio(squares: Tensor, work: Tensor, constant: float) -> tuple[Tensor, Tensor]:
    """Return 2 (2 x y + c) and 2 (x^2 + y^2 + c) from (x + y)^2 and (x - y)^2, the latter in the place of the first."""
    difference = torch.sub(squares[0], squares[1], out=work).add_(2.0 * constant)
    return difference, squares[0].add_(squares[1]).add_(2.0 * constant)


def _taps() -> list[float]:
    offsets = np.arange(WINDOW) - EDGE
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return [float(weight) for weight in weights / weights.sum()]


def _filter(planes: Tensor, out: Tensor) -> None:
    """Smooth planes (N,H,W) with the window; only the valid region of `out` is meant to be used."""
    if planes.device.type != "cpu":
        _shifted_sums(planes, out)
        return
    kernel = np.asarray(_taps(), dtype=np.float32)
    for plane, smooth in zip(planes.numpy(), out.numpy(), strict=True):
        cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, dst=smooth)


def _shifted_sums(planes: Tensor, out: Tensor) -> None:
    height, width = planes.shape[-2] - 2 * EDGE, planes.shape[-1] - 2 * EDGE
    columns = torch.zeros_like(planes[:, :height])
    valid = out.zero_()[:, EDGE:-EDGE, EDGE:-EDGE]
    for start, tap in enumerate(_taps()):
        columns.add_(planes[:, start : start + height], alpha=tap)
    for start, tap in enumerate(_taps()):
        valid.add_(columns[:, :, start : start + width], alpha=tap)
