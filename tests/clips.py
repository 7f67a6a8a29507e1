"""Write small videos of any kind, for tests of reading."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import VideoStream
from av.container import OutputContainer

UPRIGHT = (1, 0, 0, 1)
"""Display matrix of an MP4: what a player multiplies pixel positions with."""


def write_video(
    path: Path,
    frames: int = 40,
    *,
    size: tuple[int, int] = (96, 128),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    seed: int = 0,
    every: int = 1,
) -> Path:
    """Write moving gradients, another picture each frame; 25 frames per second, or one in `every` of them."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    with av.open(str(path), "w", options=dict(container or {})) as output:
        stream = video_stream(output, codec, 25, size, pixels=pixels, options=options)
        for index in range(frames):
            shift = index + 10 * seed
            planes = (columns * 2 + shift * 5, rows * 2 + shift * 3, rows + columns + shift * 7)
            picture = np.stack([plane % 256 for plane in planes], axis=-1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index * every, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def video_stream(
    output: OutputContainer,
    codec: str,
    rate: Fraction | int,
    size: tuple[int, int],
    *,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> VideoStream:
    """Add a stream of pictures of a size (height, width) to a file that is being written."""
    stream = output.add_stream(codec, rate=rate, options=dict(options or {}))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = size[1], size[0], pixels
    return stream


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set the display matrix of an MP4 in place, as a telephone held sideways does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Give an MP4 of 25 frames per second, in place, an edit list that shows `frames` from `first`, for each pair."""
    content = path.read_bytes()
    place = content.index(b"moov") - 4
    head, moov = content[:place], bytearray(content[place:])
    found = {name: moov.index(name) - 4 for name in (b"mvhd", b"trak", b"edts", b"elst", b"mdhd")}
    (movie_scale,) = struct.unpack_from(">I", moov, found[b"mvhd"] + 20)
    (scale,) = struct.unpack_from(">I", moov, found[b"mdhd"] + 20)
    (delay,) = struct.unpack_from(">i", moov, found[b"elst"] + 20)  # the time of the first frame
    rows = [(count * movie_scale // 25, delay + first * scale // 25, 1 << 16) for first, count in edits]
    table = struct.pack(">II", 0, len(rows)) + b"".join(struct.pack(">Iii", *row) for row in rows)
    box = struct.pack(">I4sI4s", len(table) + 16, b"edts", len(table) + 8, b"elst") + table
    (old,) = struct.unpack_from(">I", moov, found[b"edts"])
    for parent in (0, found[b"trak"]):
        struct.pack_into(">I", moov, parent, struct.unpack_from(">I", moov, parent)[0] + len(box) - old)
    moov[found[b"edts"] : found[b"edts"] + old] = box
    path.write_bytes(head + moov)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def decode_in_order(path: Path) -> np.ndarray:
    """Decode a whole file from its start with PyAV: uint8 (T,H,W,3), of square pixels, not turned."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # how damage is concealed depends on their number
        width = int(stream.width * (stream.sample_aspect_ratio or 1) + 0.5)
        way: dict[str, Any] = {} if width == stream.width else {"width": width, "interpolation": "BICUBIC"}
        return np.stack([frame.to_ndarray(format="rgb24", **way) for frame in container.decode(stream)])
