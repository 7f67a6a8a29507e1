"""Metrics of motion: the warping error of a clip along the original's flow, and how far the two flows differ (tOF)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from video_vae.metrics.pixel import check_frames

if TYPE_CHECKING:
    from video_vae.metrics.flow import Flow


def warp(frames: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Fetch each pixel from where a flow points to, bilinearly.

    Args:
        frames: (N,C,H,W).
        flow: (N,2,H,W), x then y, in pixels: what is shown at p is fetched from p + flow(p).

    Returns the fetched frames, and where they come from inside of the frame, bool (N,1,H,W).
    """
    height, width = frames.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)[None, :]
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    found = functional.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found, inside[:, None]


def visible(backward: Tensor, forward: Tensor) -> Tensor:
    """Tell which pixels of a frame are seen in the frame before as well, bool (N,1,H,W).

    Ruder et al. 2016, section 3.2, as Lai et al. 2018 use it: left out is what lies outside of the frame before, where
    the two flows do not lead back to the start, and where the flow changes sharply.

    Args:
        backward: flow (N,2,H,W) from the frame to the one before, in pixels.
        forward: flow from the one before to the frame.
    """
    back, inside = warp(forward, backward)
    gap, size = _squared(backward + back), _squared(backward) + _squared(back)
    edge = sum(_squared(_gradient(backward, axis)) for axis in (-1, -2))
    return inside & (gap <= 0.01 * size + 0.5) & (edge <= 0.01 * _squared(backward) + 0.002)


def _squared(flow: Tensor) -> Tensor:
    return flow.square().sum(dim=1, keepdim=True)


def _gradient(flow: Tensor, axis: int) -> Tensor:
    """Return the change to the next pixel, zero at the last one."""
    change = flow.diff(dim=axis)
    return torch.cat([change, torch.zeros_like(flow.narrow(axis, 0, 1))], dim=axis)


def warping_error(real: Tensor, generated: Tensor, flow: Flow) -> Tensor:
    """Return the warping error of Lai et al. 2018 (section 4.2) of each frame against the one before, (T-1,), float64.

    The original's flow carries the generated frame t - 1 onto frame t; the value is the mean squared difference from
    the generated frame t over the pixels that are seen in both, for values in [0,1]. 0 for a generated clip that
    stands still where the original does, and high where it flickers along the motion. NaN where none is seen in both.

    Args:
        real: the original, float (T,3,H,W) in [0,1].
        generated: what is scored, the same shape.
        flow: optical flow; numbers with different flows cannot be compared.
    """
    check_frames(real, generated)
    if len(real) < 2:
        return real.new_zeros(0, dtype=torch.float64)
    backward, forward = flow(real[1:], real[:-1]), flow(real[:-1], real[1:])
    return carried_error(generated, backward, visible(backward, forward))


def carried_error(generated: Tensor, backward: Tensor, seen: Tensor) -> Tensor:
    """Return the mean squared error of frames carried along a flow, (T-1,), float64.

    Args:
        generated: (T,3,H,W) in [0,1].
        backward: flow (T-1,2,H,W) from each frame but the first to the one before.
        seen: which pixels count, bool (T-1,1,H,W).
    """
    carried, _ = warp(generated[:-1], backward)
    error = (carried - generated[1:]).square().mean(dim=1, keepdim=True).double()
    return (error * seen).sum(dim=(1, 2, 3)) / seen.sum(dim=(1, 2, 3))


def tof(real: Tensor, generated: Tensor, flow: Flow) -> Tensor:
    """Return tOF of Chu et al. 2020 (section 5): how far the flows of the two clips differ, (T-1,), float64, in pixels.

    The mean over pixels of the length of the difference of the flows from frame t - 1 to t; 0 for the same motion.

    Args:
        real: the original, float (T,3,H,W) in [0,1].
        generated: what is scored, the same shape.
        flow: optical flow; numbers with different flows cannot be compared.
    """
    check_frames(real, generated)
    if len(real) < 2:
        return real.new_zeros(0, dtype=torch.float64)
    return flow_difference(flow(real[:-1], real[1:]), flow(generated[:-1], generated[1:]))


def flow_length(flow: Tensor) -> Tensor:
    """Return the mean length of flows (N,2,H,W) in pixels, (N,), float64: how much each frame moves."""
    return _squared(flow.double()).sqrt().mean(dim=(1, 2, 3))


def flow_difference(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean length of the difference of flows (N,2,H,W) in pixels, (N,), float64."""
    return _squared(first.double() - second.double()).sqrt().mean(dim=(1, 2, 3))
