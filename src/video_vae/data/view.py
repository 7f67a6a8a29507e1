"""Which part of a frame is seen, and at which size: plain geometry, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class View:
    """How a training window looks at its frames."""

    zoom: float
    """Enlargement; 1 just covers the window."""
    place: tuple[float, float] | None = None
    """Where it lies, from the top left (0,0) to the bottom right (1,1); None for the centre."""
    flip: bool = False
    """Mirrored, left to right."""


def covering(shape: tuple[int, ...], resolution: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Give the smallest height and width of frames of a shape (H,W) that cover the crop, enlarged by `zoom`."""
    height, width = resolution
    scale = zoom * max(height / shape[0], width / shape[1])
    return max(height, round(shape[0] * scale)), max(width, round(shape[1] * scale))


def whole_size(shape: tuple[int, ...], resolution: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Give the height and width that `whole` gives to frames of a shape (H,W)."""
    height, width = covering(shape, resolution, zoom)
    return height // 8 * 8, width // 8 * 8


def corner(
    size: tuple[int, int], resolution: tuple[int, int], place: tuple[float, float] | None, *, flip: bool = False
) -> tuple[int, int]:
    """Give the top and left of a crop in frames of a size; with `flip`, where it lies in mirrored frames."""
    free = size[0] - resolution[0], size[1] - resolution[1]
    if place is None:
        top, left = free[0] // 2, free[1] // 2
    else:
        top, left = (min(int(share * (room + 1)), room) for share, room in zip(place, free, strict=True))
    return top, free[1] - left if flip else left
