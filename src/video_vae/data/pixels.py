"""From a decoded frame to the picture that a player shows: what is done to it, and the words for that in the tables."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""Frames as a player would show them: uint8 (T,H,W,3), RGB."""

Handling = Literal["edited", "turned"]
"""Word of the tables' column `handling`: what was done so that a file is read as a player shows it."""

HANDLINGS: tuple[Handling, ...] = get_args(Handling)


def to_rgb(frame: VideoFrame, stream: VideoStream) -> Frames:
    """Convert to RGB by the frame's own colour space, and turn it upright: uint8 (H,W,3).

    `stream` is where the frame comes from.
    """
    del stream
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, _quarters(frame)))


def picture_handling(frame: VideoFrame, stream: VideoStream) -> tuple[Handling, ...]:
    """Say what `to_rgb` does to the frames of a stream, told by one of them."""
    del stream
    return ("turned",) if _quarters(frame) else ()


def _quarters(frame: VideoFrame) -> int:
    """Count the quarter turns, counter-clockwise, that make a frame upright."""
    return round(frame.rotation / 90) % 4
