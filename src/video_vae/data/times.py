"""When each frame of a file is shown."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from video_vae.data.images import ANIMATED_SUFFIXES, probe_image
from video_vae.data.index import video_index
from video_vae.tar_members import file_of

EVEN = 0.0011
"""Seconds by which frames may miss their places at an even rate: containers round to milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTimes:
    """Time stamps of all frames in the order shown, in units of `base` seconds."""

    stamps: Sequence[int]
    base: Fraction


def frame_times(path: str | Path) -> FrameTimes | None:
    """Tell when each frame of a video is shown; None where the file does not say.

    Raises:
        MediaError: if it is missing or cannot be opened.
    """
    if Path(path).is_dir():
        return None
    if Path(path).suffix.lower() in ANIMATED_SUFFIXES:
        return _animation(str(path), file_of(path).stat().st_mtime_ns)
    index = video_index(path)
    stamps = index.stamps or index.ticks
    return FrameTimes(stamps=stamps, base=index.base) if stamps else None


@lru_cache(maxsize=64)
def _animation(path: str, changed: int) -> FrameTimes:
    """Add up how long frames are shown (`changed` makes a new file a new key)."""
    del changed
    durations = [round(seconds * 1000) for seconds in probe_image(path).durations]
    return FrameTimes(stamps=tuple(itertools.accumulate(durations[:-1], initial=0)), base=Fraction(1, 1000))


def uneven_times(path: str | Path, count: int, fps: float) -> tuple[float, ...]:
    """List when each frame of a video is shown, in seconds from the first; empty where an even rate tells.

    `count` is the number of its frames.

    Raises:
        MediaError: if it is missing or cannot be opened.
    """
    found = frame_times(path)
    if found is None or len(found.stamps) != count:
        return ()
    first = found.stamps[0]
    times = [float((stamp - first) * found.base) for stamp in found.stamps]
    even = all(abs(time - frame / fps) <= EVEN for frame, time in enumerate(times))
    return () if even else tuple(round(time, 6) for time in times)
