"""Several windows of a long clip: each is reconstructed and stored as a clip, and scored as part of the whole one.

The first window has the clip's name, a further one `CLIP@START`, START its first frame in the clip. `@` is part of
no name of a clip.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from video_vae.data.sampling import ROUNDING, Sampling
from video_vae.data.table import Clip

_NAME = re.compile(r"(.+)@(\d+)", re.DOTALL)


def cut_windows(clips: Iterable[Clip], count: int, frames: int | None, sampling: Sampling) -> Iterator[Clip]:
    """Yield each clip, then further windows of it, `count` in all where it is long enough.

    Args:
        clips: whole clips.
        count: most windows of a clip, at least 1.
        frames: frames of a window as the model sees them; None takes clips whole.
        sampling: which frames of a clip the model sees.

    Windows do not overlap. They are spread evenly from the first frame to the last.
    """
    for clip in clips:
        yield clip
        if frames is None or clip.kind == "image":
            continue
        span = math.ceil(frames * sampling.step(clip.fps or 1.0) - ROUNDING)
        fitting = min(count, clip.num_frames // span)
        for number in range(1, fitting):
            yield _window(clip, round(number * (clip.num_frames - span) / (fitting - 1)))


def _window(clip: Clip, start: int) -> Clip:
    length = clip.num_frames - start
    seconds = None if clip.seconds is None else clip.seconds * length / clip.num_frames
    moved = replace(clip, clip_id=f"{clip.clip_id}@{start}", start_frame=clip.start_frame + start)
    return replace(moved, num_frames=length, seconds=seconds)


def is_window(name: str) -> bool:
    """Tell whether a name is that of a further window."""
    return _NAME.fullmatch(name) is not None


def clip_and_start(name: str, names: Collection[str]) -> tuple[str, int]:
    """Return the clip that a name stands for, another one only if it is among `names`, and where its window starts."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2])) if match and match[1] in names else (name, 0)
