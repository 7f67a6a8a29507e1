"""Sizes that training steps take: each a height, a width and a share of the steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from video_vae.config.types import Positive, Settings, Side

Size = tuple[Side, Side]
"""Height and width, in pixels."""
MOST = 16
"""Sizes of a training: each has a cache of its own."""


def size_text(size: tuple[int, int]) -> str:
    """Write a size as HEIGHTxWIDTH."""
    return f"{size[0]}x{size[1]}"


def _multiples_of_8(size: tuple[int, int]) -> tuple[int, int]:
    if any(side % 8 for side in size):
        raise ValueError(f"height and width must be multiples of 8, not {size_text(size)}")
    return size


Resolution = Annotated[Size, AfterValidator(_multiples_of_8)]


class Bucket(Settings):
    """One of the sizes that training steps take."""

    resolution: Resolution
    """Height and width, in pixels, multiples of 8: shorter side resized, centre cropped (or as `data.crop` says)."""
    share: Positive = 1.0
    """Steps that take it, against the shares of the others: 1 and 3 are a quarter and three quarters of the steps."""


def _distinct(buckets: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
    sizes = [bucket.resolution for bucket in buckets]
    twice = next((size for size in sizes if sizes.count(size) > 1), None)
    if twice is not None:
        raise ValueError(f"{size_text(twice)} is listed twice; add up its shares")
    return buckets


Buckets = Annotated[tuple[Bucket, ...], Field(max_length=MOST), AfterValidator(_distinct)]
