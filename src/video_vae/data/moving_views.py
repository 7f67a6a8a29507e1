"""Move a view over a photograph: pans, zooms, turns, layers that move on their own, sensor noise; NumPy and Pillow.

What real clips have is drawn at random: many views stand still or nearly so, others move by up to 3 % of the picture
per frame, steadily or with a sway; every second one has a layer or two, which are parts of the photograph itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frames = NDArray[np.uint8]
Numbers = NDArray[np.float64]
Size = tuple[int, int]

STILL = 0.3
"""Share of views, and of layers, that hardly move."""
SPEEDS = (0.0005, 0.03)
"""Slowest and fastest motion per frame, as shares of the shorter side; drawn evenly in their logarithm."""
COVER = (1.6, 3.0)
"""How much larger than the picture a photograph is taken, so that there is room to move."""
LAYERS = (0.5, 0.3, 0.2)
"""Shares of clips with no layer, one and two."""
NOISE = (0.5, 3.0)
"""Smallest and largest standard deviation of the sensor's noise, in steps of 255."""
EDGE = 3.0
"""Pixels over which a layer's edge fades."""


@dataclass(frozen=True, kw_only=True)
class _Path:
    """Where a view looks, per frame: the middle (T,2) as y and x in pixels, the size of a pixel (T,), the turn (T,)."""

    middle: Numbers
    scale: Numbers
    turn: Numbers


def pan(photo: Frames, frames: int, size: Size, random: np.random.Generator) -> Frames:
    """Make a moving clip of a photograph, uint8 (H,W,3): uint8 (T,h,w,3); the same numbers for the same generator."""
    ground = _covering(photo, size, random.uniform(*COVER))
    path = _inside(_path(frames, size, random), ground, size, random)
    layers = [_Layer(photo, frames, size, random) for _ in range(random.choice(len(LAYERS), p=LAYERS))]
    noise = random.uniform(*NOISE) if random.random() < 0.6 else 0.0
    result = np.empty((frames, *size, 3), dtype=np.uint8)
    for frame in range(frames):
        seen = _look(ground, size, path, frame)
        for layer in layers:
            seen = layer.over(seen, frame)
        if noise:
            seen = seen + noise * random.standard_normal(seen.shape)
        result[frame] = np.rint(seen).clip(0, 255)
    return result


class _Layer:
    """A part of the photograph with a soft, irregular outline that moves over the picture."""

    def __init__(self, photo: Frames, frames: int, size: Size, random: np.random.Generator) -> None:
        self.size = size
        part = (max(8, int(size[0] * random.uniform(0.15, 0.7))), max(8, int(size[1] * random.uniform(0.15, 0.7))))
        self.image = _covering(photo, part, random.uniform(1.0, 3.0))
        room = self.image.height - part[0], self.image.width - part[1]
        self.image = self.image.crop(_box(part, room, random))
        self.mask = Image.fromarray((255 * _outline(part, random)).astype(np.uint8))
        motion = _path(frames, size, random)
        place = np.array(size) * random.uniform(0.2, 0.8, 2)
        self.path = _Path(middle=place + motion.middle, scale=motion.scale, turn=motion.turn)

    def over(self, picture: Numbers, frame: int) -> Numbers:
        """Lay the part over a picture (h,w,3)."""
        share = self._placed(self.mask, frame)[..., None] / 255
        return picture * (1 - share) + self._placed(self.image, frame) * share

    def _placed(self, image: Image.Image, frame: int) -> Numbers:
        centre = ((image.height - 1) / 2, (image.width - 1) / 2)
        middle = self.path.middle[frame]
        return _transformed(image, self.size, centre, middle, self.path.scale[frame], self.path.turn[frame])


def _box(part: Size, room: Size, random: np.random.Generator) -> tuple[int, int, int, int]:
    top, left = (int(random.integers(free + 1)) for free in room)
    return left, top, left + part[1], top + part[0]


def _covering(photo: Frames, size: Size, factor: float) -> Image.Image:
    """Resize a photograph so that it covers a size, that many times larger."""
    scale = factor * max(size[0] / photo.shape[0], size[1] / photo.shape[1])
    height, width = (max(side, round(length * scale)) for side, length in zip(size, photo.shape[:2], strict=True))
    return Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)


def _path(frames: int, size: Size, random: np.random.Generator) -> _Path:
    """Draw a motion about a middle of (0, 0)."""
    times = np.arange(frames) - (frames - 1) / 2
    still = random.random() < STILL
    speed = 0.0 if still else min(size) * math.exp(random.uniform(*np.log(SPEEDS)))
    angle = random.uniform(0, 2 * math.pi)
    middle = speed * times[:, None] * np.array([math.sin(angle), math.cos(angle)])
    sway = random.uniform(0, 2) * speed * random.standard_normal((2, 2))
    for direction in sway:
        phase = 2 * math.pi * (times / random.uniform(12, 60) + random.random())
        middle = middle + direction * np.sin(phase)[:, None]
    zooms, turns = random.random(2) < (0.0 if still else 0.35)
    rates = 0.006 * random.standard_normal(2) * np.array([zooms, turns])
    return _Path(middle=middle, scale=np.exp(rates[0] * times), turn=rates[1] * times)


def _inside(path: _Path, ground: Image.Image, size: Size, random: np.random.Generator) -> _Path:
    """Place a motion at random within a picture, which it leaves by no pixel; it stops at the edge."""
    reach = (
        0.5 * np.hypot(*size) * path.scale[:, None] if path.turn.any() else 0.5 * np.array(size) * path.scale[:, None]
    )
    low, high = reach, np.array([ground.height, ground.width]) - reach
    start = random.uniform(size=2) * (high - low).clip(0).min(axis=0) + low.max(axis=0)
    middle = np.minimum(np.maximum(start + path.middle, low), np.maximum(high, low))
    return _Path(middle=middle, scale=path.scale, turn=path.turn)


def _look(ground: Image.Image, size: Size, path: _Path, frame: int) -> Numbers:
    """See a picture by a view: float (h,w,3)."""
    middle = (float(path.middle[frame, 0]) - 0.5, float(path.middle[frame, 1]) - 0.5)
    target = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    return _transformed(ground, size, middle, target, path.scale[frame], path.turn[frame])


def _transformed(
    image: Image.Image, size: Size, source: Size | tuple[float, float], target: Numbers, scale: float, turn: float
) -> Numbers:
    """Turn and resize an image so that its place `source` comes to `target`, both (y,x): float (h,w) or (h,w,3)."""
    cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
    y, x = float(target[0]) + 0.5, float(target[1]) + 0.5
    across = (cosine, -sine, source[1] + 0.5 - cosine * x + sine * y)
    down = (sine, cosine, source[0] + 0.5 - sine * x - cosine * y)
    moved = image.transform(size[::-1], Image.Transform.AFFINE, (*across, *down), resample=Image.Resampling.BICUBIC)
    return np.asarray(moved, dtype=np.float64)


def _outline(size: Size, random: np.random.Generator) -> Numbers:
    """Draw a rounded shape, 1 within and 0 outside, as (h,w)."""
    height, width = size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    edge = np.full(size, 0.8)
    for wave in range(1, 6):
        edge = edge + 0.2 * random.standard_normal() / wave * np.cos(wave * angle + random.uniform(0, 2 * math.pi))
    shape: Numbers = ((edge.clip(0.3, 0.95) - radius) * min(size) / (2 * EDGE) + 0.5).clip(0, 1)
    return shape
