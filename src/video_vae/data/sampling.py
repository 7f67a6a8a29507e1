"""Which frames of a clip the model sees: every n-th, or resampled by time to one frame rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from video_vae.config import Data
from video_vae.data.table import Clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_DENOMINATOR = 100_000
"""Frame rates are taken as fractions with at most this denominator: 23.976 as 2997 / 125."""
ROUNDING = 1e-6
"""Seconds to which tables write lengths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How frames are taken from clips.

    With `fps` a clip is resampled: each moment, counted from its first frame, shows the frame nearest in time (the
    earlier of two equally near). Slower clips show frames twice. Every `frame_interval`-th of these is taken.
    """

    frame_interval: int = 1
    fps: float | None = None

    @classmethod
    def of(cls, data: Data) -> Sampling:
        """Take the sampling that a config asks for."""
        return cls(frame_interval=data.frame_interval, fps=data.fps)

    def identity(self) -> list[int | float]:
        """Return what identifies this sampling; JSON-like, the frame rate only where one is set."""
        return [self.frame_interval] if self.fps is None else [self.frame_interval, self.fps]

    def count(self, clip: Clip) -> int:
        """Count the frames that the model sees of a clip, without opening it."""
        if self.fps is None or clip.kind == "image":
            return -(-clip.num_frames // self.frame_interval)
        moments = max(1, math.floor((clip_seconds(clip) + ROUNDING) * self.fps + 0.5))
        return -(-moments // self.frame_interval)

    def indices(self, clip: Clip) -> Sequence[int]:
        """List the frames that the model sees, by their number from the start of the clip; `count` of them.

        Raises:
            MediaError: if time is asked for and the file is missing or cannot be opened.
        """
        if self.fps is None or clip.kind == "image":
            return range(0, clip.num_frames, self.frame_interval)
        found = _by_time(clip, self.fps, self.count(clip), self.frame_interval)
        result: list[int] = found.tolist()
        return result

    def rate(self, fps: float) -> float:
        """Return the frames per second that the model sees of a clip with so many."""
        return (self.fps or fps) / self.frame_interval

    def step(self, fps: float) -> float:
        """Return how many frames of a clip with so many frames per second pass for each one that the model sees."""
        return fps / self.rate(fps)

    def span(self, frames: int, fps: float) -> int:
        """Return the least number of a clip's frames in which the model sees so many."""
        return math.ceil((frames - 1) * self.step(fps) - ROUNDING) + 1


def clip_seconds(clip: Clip) -> float:
    """Return how long a clip is shown, in seconds."""
    return clip.num_frames / (clip.fps or 1.0) if clip.seconds is None else clip.seconds


@lru_cache(maxsize=1024)
def _by_time(clip: Clip, fps: float, count: int, interval: int) -> NDArray[np.int32]:
    """Return the frame nearest to each moment of a clip."""
    import numpy as np  # here, so that frames are counted where no video can be read: the workflow's plan does

    from video_vae.data.identity import know_place
    from video_vae.data.times import frame_times

    rate = Fraction(fps).limit_denominator(MAX_DENOMINATOR)
    know_place(clip)
    known = frame_times(clip.path)
    end = clip.start_frame + clip.num_frames
    if known is None or len(known.stamps) < end:
        ticks = np.arange(clip.num_frames, dtype=np.int64)
        base = 1 / Fraction(clip.fps or 1.0).limit_denominator(MAX_DENOMINATOR)
    else:
        base = known.base
        ticks = np.asarray(known.stamps[clip.start_frame : end], dtype=np.int64)
        ticks = ticks - ticks[:1]
    scale = base * rate  # moments per tick; whole numbers, so that ties are ties
    shown = ticks * scale.numerator
    moments = np.arange(count, dtype=np.int64) * (interval * scale.denominator)
    later = np.searchsorted(shown, moments).clip(1, max(1, len(shown) - 1))
    nearer = moments - shown[later - 1] <= shown[np.minimum(later, len(shown) - 1)] - moments
    return np.where(nearer, later - 1, np.minimum(later, len(shown) - 1)).astype(np.int32)
