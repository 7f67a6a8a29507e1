"""From decoded frames to what the model sees, and back. Everything here is deterministic."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from video_vae.data.view import View, corner, covering, whole_size

Frames = NDArray[np.uint8]
"""Frames as decoded: uint8 (T,H,W,3), RGB."""

CHUNK = 32
"""Frames resized at once: bounds the memory of long clips."""


def resize_crop(
    frames: Frames, resolution: tuple[int, int], zoom: float = 1.0, place: tuple[float, float] | None = None
) -> Frames:
    """Resize (bilinear, antialiased) so that the crop is just covered, then crop the centre, or at `place`.

    Takes uint8 (T,H,W,3), returns uint8 (T,h,w,3) with `resolution` = (h,w). A frame's pixels do not depend on the
    other frames. `zoom` enlarges: 2 keeps half of the side that 1 keeps.
    """
    if frames.shape[1:3] == resolution and zoom == 1.0:
        return frames
    size = covering(frames.shape[1:3], resolution, zoom)
    return _resize(frames, size, corner(size, resolution, place), resolution)


def look(frames: Frames, resolution: tuple[int, int], view: View) -> Frames:
    """See frames, uint8 (T,H,W,3), by a view: uint8 (T,h,w,3)."""
    seen = resize_crop(frames, resolution, view.zoom, view.place)
    return seen[:, :, ::-1] if view.flip else seen


def resized_look(frames: Frames, shape: tuple[int, int], resolution: tuple[int, int], view: View) -> Frames:
    """See frames that were resized before as `look` sees those of their first height and width, `shape`.

    Exactly so where they have the size that the view enlarges them to, else after being resized twice.
    """
    size = covering(shape, resolution, view.zoom)
    seen = _resize(frames, size, corner(size, resolution, view.place), resolution)
    return seen[:, :, ::-1] if view.flip else seen


def cover(frames: Frames, resolution: tuple[int, int], zoom: float) -> Frames:
    """Resize as `resize_crop` does, and crop nothing: uint8 (T,H',W',3)."""
    size = covering(frames.shape[1:3], resolution, zoom)
    return _resize(frames, size, (0, 0), size)


def whole(frames: Frames, resolution: tuple[int, int], zoom: float) -> Frames:
    """Resize as `resize_crop` does, and crop no more than the sides need to be multiples of 8: uint8 (T,H',W',3)."""
    size = covering(frames.shape[1:3], resolution, zoom)
    sides = whole_size(frames.shape[1:3], resolution, zoom)
    return frames if size == sides == frames.shape[1:3] else _resize(frames, size, corner(size, sides, None), sides)


def _resize(frames: Frames, size: tuple[int, int], at: tuple[int, int], sides: tuple[int, int]) -> Frames:
    (top, left), (height, width) = at, sides
    result = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    for start in range(0, len(frames), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(frames[start : start + CHUNK])).permute(0, 3, 1, 2)
        resized = functional.interpolate(part, size=size, mode="bilinear", antialias=True, align_corners=False)
        crop = resized[:, :, top : top + height, left : left + width]
        result[start : start + CHUNK] = crop.permute(0, 2, 3, 1).numpy()
    return result


def pad_to_multiple(frames: Frames, multiple: int) -> Frames:
    """Repeat the last row and column of uint8 (T,H,W,3) until both sides are multiples; cut `[:, :H, :W]` undoes it."""
    bottom, right = -frames.shape[1] % multiple, -frames.shape[2] % multiple
    return np.pad(frames, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else frames


def to_tensor(frames: Frames) -> Tensor:
    """Turn uint8 (T,h,w,3) into float32 (3,T,h,w) in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float().div(127.5).sub(1.0).contiguous()


def to_uint8(video: Tensor) -> Frames:
    """Turn (3,T,h,w) in [-1,1] into uint8 (T,h,w,3): clamped, rounded; the inverse of `to_tensor`."""
    scaled = video.detach().float().add(1.0).mul(127.5).round().clamp(0.0, 255.0)
    result: Frames = scaled.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return result
