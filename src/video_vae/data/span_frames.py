"""From a part of a file, in seconds or frames, to the frames that it holds."""

from __future__ import annotations

import math
from bisect import bisect_left

from video_vae.data.content import MediaError
from video_vae.data.spans import Span
from video_vae.data.video import MediaInfo

SLACK = 0.0015
"""Seconds by which a bound may miss a frame and still mean it: lists round to milliseconds, and so do containers."""
OVERSHOOT = 0.1
"""Seconds by which a part may reach past the file's end and be cut to it: lists round to tenths."""


def frames_of(part: Span | None, info: MediaInfo) -> tuple[int, int]:
    """Return first frame and number of frames of a part of a video.

    Frames count from the first one that is shown at or after the start, up to the first one at or after the end.

    Raises:
        MediaError: if it holds no frame or reaches past the end of the file.
    """
    if info.kind == "image":
        return 0, 1
    if part is None:
        return 0, info.num_frames
    if part.in_frames:
        start = int(part.start)
        count = info.num_frames - start if part.end is None else int(part.end) - start
        if start + count > info.num_frames or count < 1:
            raise MediaError(
                "too short", f"the segment needs {max(count, 1)} frames from {start}, the file has {info.num_frames}"
            )
        return start, count
    return _timed(part, info)


def seconds_of(start: int, count: int, info: MediaInfo) -> float | None:
    """Return how long so many frames of a video are shown, in seconds; None for an image."""
    if info.fps is None:
        return None
    end = start + count
    until = info.times[end] if end < len(info.times) else _time(info.num_frames - 1, info) + 1 / info.fps
    return round((until if info.times else end / info.fps) - _time(start, info), 6)


def _time(frame: int, info: MediaInfo) -> float:
    """Return when a frame is shown, in seconds from the first."""
    return info.times[frame] if info.times else frame / (info.fps or 1.0)


def _timed(part: Span, info: MediaInfo) -> tuple[int, int]:
    length = _time(info.num_frames - 1, info) + 1 / (info.fps or 1.0)
    end = length if part.end is None else part.end
    if end > length + OVERSHOOT or part.start >= length:
        hint = "" if max(part.start, end) > info.num_frames else "; if frames are meant, name the columns by"
        hint += " data.columns: {start_frame: ..., end_frame: ...}" if hint else ""
        raise MediaError("too short", f"the segment ends at {end:g} s, the file at {length:.6g} s{hint}")
    start, stop = _first_at(part.start, info), _first_at(end, info)
    if stop <= start:
        raise MediaError("too short", f"no frame is shown between {part.start:g} and {end:g} s")
    return start, stop - start


def _first_at(seconds: float, info: MediaInfo) -> int:
    """Return the first frame that is shown at a time or after it."""
    if info.times:
        return bisect_left(info.times, seconds - SLACK)
    return min(max(0, math.ceil((seconds - SLACK) * (info.fps or 1.0))), info.num_frames)
