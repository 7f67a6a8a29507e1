"""Read videos by decord, where it gives exactly the frames of the reference reader.

decord counts frames, and silently gives others than were asked for where that goes wrong: a quarter of all frames with
open groups of pictures, nearly all with edit lists, in transport and program streams and in AVI with B-frames. So it
reads only what the packets prove safe and a comparison confirms.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from video_vae.data.content import MediaError, message
from video_vae.data.frames import iterate_frames
from video_vae.data.index import video_index
from video_vae.data.pixels import Frames
from video_vae.tar_members import member_of

WINDOW = 5
"""Frames compared at each place."""
PLACES = (0.0, 0.37, 0.71, 1.0)
"""Where they are compared, as shares of the length."""


def is_installed() -> bool:
    """Tell whether decord is there."""
    return importlib.util.find_spec("decord") is not None


def reads_exactly(path: str | Path) -> bool:
    """Tell whether decord reads a video as the reference reader does: by its packets, and by frames of some windows.

    Raises:
        MediaError: if the file is missing or the reference reader cannot decode it.
    """
    if member_of(path) is not None:  # it opens nothing but files
        return False
    index = video_index(path)
    if not index.plain or not is_installed():
        return False
    count = len(index.stamps)
    try:
        reader = _open(path)
        if len(reader) != count:
            return False
        for share in PLACES:
            start = round(share * max(0, count - WINDOW))
            window = range(start, min(start + WINDOW, count))
            found = _batch(reader, window)
            wanted = np.stack(list(iterate_frames(path, window)))
            if found.shape != wanted.shape or not np.array_equal(found, wanted):
                return False
    except _errors():
        return False
    return True


def iterate_decord(path: str | Path, indices: Sequence[int], size: int) -> Iterator[Frames]:
    """Decode frames, by non-decreasing indices, in pieces of `size` frames: uint8 (t,H,W,3).

    Raises:
        MediaError: if the file cannot be opened or a frame does not decode, or decord is not there.
    """
    if not indices:
        return
    if not is_installed():
        raise MediaError("unreadable", "its table names decord as its reader, which is not installed here")
    try:
        reader = _open(path)
        if indices[-1] >= len(reader):
            raise MediaError("truncated", f"frame {indices[-1]} asked for, {len(reader)} frames present")
        for start in range(0, len(indices), size):
            yield _batch(reader, indices[start : start + size])
    except _errors() as error:
        raise MediaError("truncated", f"decord: {message(error).splitlines()[0]}") from None


def _open(path: str | Path) -> Any:
    """Open a file (never an address) for one thread."""
    import decord  # its library is large, and few commands need it

    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(str(Path(path).resolve()), ctx=decord.cpu(0), num_threads=1)


def _batch(reader: Any, indices: Sequence[int]) -> Frames:
    frames: Frames = reader.get_batch(list(indices)).asnumpy()
    return frames


def _errors() -> tuple[type[Exception], ...]:
    import decord

    return (decord.DECORDError, RuntimeError, IndexError)
