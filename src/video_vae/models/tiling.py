"""Apply nets to large frames tile by tile, with blended overlaps, so that memory follows the tile and not the frame.

Norms and attention then see a tile instead of the frame, so the result is near the untiled one, not equal to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from video_vae.models.blocks import at_least_fp32


@dataclass(frozen=True)
class Tiling:
    """How frames are cut.

    Raises:
        ValueError: if the overlap is above half of the tile, or not above zero.
    """

    tile: int
    """Side of the square tiles, in pixels."""
    overlap: int
    """What neighbouring tiles share at least, in pixels."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if not 0 < 2 * self.overlap <= self.tile:
            raise ValueError(f"tiles of {self.tile} pixels cannot overlap by {self.overlap}: at most by half")

    def apply(self, function: Callable[[Tensor], Tensor], x: Tensor, pixels_in: int, pixels_out: int) -> Tensor:
        """Apply a function of (..., H, W) to tiles and blend what it gives.

        Args:
            function: maps tiles to tensors of the same or another size.
            x: what is cut.
            pixels_in: pixels a side that a place of ``x`` stands for.
            pixels_out: pixels a side that a place of the result stands for.
        """
        factor = max(pixels_in, pixels_out)  # tiles start at multiples of it, which are places on both sides
        height, width = (side * pixels_in for side in x.shape[-2:])
        if height <= self.tile and width <= self.tile:
            return function(x)
        first, *others = self.tiles(height, width, factor)
        part = function(x[..., *first.scaled(pixels_in).slices])
        blend = _Blend(part, height // pixels_out, width // pixels_out, self.overlap // pixels_out)
        blend.add(part, first.scaled(pixels_out))
        for tile in others:
            blend.add(function(x[..., *tile.scaled(pixels_in).slices]), tile.scaled(pixels_out))
        return blend.result()

    def tiles(self, height: int, width: int, factor: int) -> Iterator[Tile]:
        """Yield the tiles of a frame of so many pixels; they start and end at multiples of ``factor``."""
        side, overlap = self.tile // factor * factor, self.overlap // factor * factor
        for top in tile_starts(height, side, overlap, factor):
            for left in tile_starts(width, side, overlap, factor):
                yield Tile(top, min(top + side, height), left, min(left + side, width))


@dataclass(frozen=True)
class Tile:
    """Where a tile lies."""

    top: int
    bottom: int
    left: int
    right: int

    def scaled(self, pixels: int) -> Tile:
        """Say the same in places of so many pixels per side."""
        return Tile(self.top // pixels, self.bottom // pixels, self.left // pixels, self.right // pixels)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index the tile in (H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def tile_starts(size: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Place as few tiles as cover ``size`` with at least this overlap, spread evenly, at multiples of ``multiple``."""
    if size <= tile:
        return [0]
    room, step = (size - tile) // multiple, (tile - overlap) // multiple
    count = -(-room // step)
    return [number * room // count * multiple for number in range(count + 1)]


class _Blend:
    """Sums tiles, in fp32 at least, weighted so that each fades into its neighbours."""

    def __init__(self, like: Tensor, height: int, width: int, overlap: int) -> None:
        self._dtype = like.dtype
        self._total = at_least_fp32(like.new_zeros(*like.shape[:-2], height, width))
        self._mass = self._total.new_zeros(height, width)
        self._overlap = overlap

    def add(self, part: Tensor, tile: Tile) -> None:
        """Add (..., h, w) at its place."""
        height, width = self._mass.shape
        rows = self._ramp(tile.top, tile.bottom, height)
        weight = (rows[:, None] * self._ramp(tile.left, tile.right, width)).to(self._mass)
        self._total[..., *tile.slices] += part * weight
        self._mass[tile.slices] += weight

    def _ramp(self, start: int, end: int, whole: int) -> Tensor:
        """Rise and fall over the overlap, but not at the borders of the frame."""
        position = torch.arange(start, end)
        rising = (position - start + 1) / (self._overlap + 1) if start else torch.ones(end - start)
        falling = (end - position) / (self._overlap + 1) if end < whole else torch.ones(end - start)
        return torch.minimum(rising, falling).clamp(max=1.0)

    def result(self) -> Tensor:
        """Return the blend of all tiles, (..., H, W)."""
        return (self._total / self._mass).to(self._dtype)
