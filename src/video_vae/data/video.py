"""Read videos and images, whole clips or any frames of them, and find out what a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from video_vae.data.container import opened
from video_vae.data.content import MediaError, check_content, check_exists
from video_vae.data.frames import count_frames, decode_frames, iterate_frames
from video_vae.data.images import is_still_gif, probe_image, read_image
from video_vae.data.packets import PacketIndex, packet_index
from video_vae.data.pixels import Frames, Handling, picture_handling, to_rgb
from video_vae.data.table import Clip, Kind

IMAGE_SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff"}
    | {".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m2v", ".m4v", ".mjpeg"}
    | {".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)

ONE_SIZE = "make a copy of one size: ffmpeg -i FILE new.mp4"

SLOWEST, FASTEST = 0.1, 1000.0
"""Frames a second that a video may have; beyond, its time stamps are wrong."""

RATE_TOLERANCE = 0.05
"""Share by which the announced frame rate may differ from the time stamps' before they are believed instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaInfo:
    """What a file holds; sizes in pixels as shown, `fps` None for an image."""

    kind: Kind
    num_frames: int
    height: int
    width: int
    fps: float | None
    handling: tuple[Handling, ...] = ()
    """What is done so that it is read as a player shows it, in the order of the alphabet."""


def probe(path: str | Path) -> MediaInfo:
    """Find out what a file holds, and that its first, middle and last frame decode.

    Raises:
        MediaError: if it is missing, unreadable or truncated.
    """
    check_exists(path)
    if Path(path).suffix.lower() in IMAGE_SUFFIXES or is_still_gif(path):
        return _probe_image(path)
    index = packet_index(path)
    if index.cut:
        raise MediaError("truncated", index.cut)
    count = len(index.stamps) or count_frames(path)
    if count == 0:
        raise MediaError("unreadable", "a video stream without frames")
    sizes: list[tuple[int, int]] = []
    handling: set[Handling] = set()
    for frame, stream in decode_frames(path, sorted({0, count // 2, count - 1})):
        height, width, _ = to_rgb(frame, stream).shape
        sizes.append((height, width))
        handling |= set(picture_handling(frame, stream))
    if len(set(sizes)) > 1:
        raise MediaError("unreadable", f"its first, middle and last frame are not of one size; {ONE_SIZE}")
    height, width = sizes[0]
    return MediaInfo(
        kind="video",
        num_frames=count,
        height=height,
        width=width,
        fps=_rate(path, index),
        handling=tuple(sorted(handling)),
    )


def _probe_image(path: str | Path) -> MediaInfo:
    info = probe_image(path)
    fps = round(info.num_frames / info.seconds, 3) if info.num_frames > 1 else None
    return MediaInfo(
        kind="image" if fps is None else "video",
        num_frames=info.num_frames,
        height=info.height,
        width=info.width,
        fps=fps,
        handling=info.handling,
    )


def _rate(path: str | Path, index: PacketIndex) -> float:
    """Frames a second as announced, or as the time stamps have it where the container repeats frames instead."""
    with opened(path) as (_, stream):
        announced = float(stream.average_rate or stream.guessed_rate or 25)
        base = float(stream.time_base or 0)
    seconds = (index.stamps[-1] - index.stamps[0]) * base if len(index.stamps) > 1 else 0.0
    measured = (len(index.stamps) - 1) / seconds if seconds else announced
    rate = announced if abs(measured / announced - 1) < RATE_TOLERANCE else round(measured, 3)
    if not SLOWEST <= rate < FASTEST:
        raise MediaError("unreadable", f"its time stamps give {rate:.3g} frames a second")
    return rate


def read_clip(clip: Clip, indices: Sequence[int] | None = None) -> Frames:
    """Read frames of a clip, by their index from the start of the clip; all frames where none are named.

    Raises:
        MediaError: if the file is gone or another than the table was made from, or a frame cannot be decoded.
    """
    check_content(clip)
    try:
        if clip.kind == "image":
            image = read_image(clip.path)
            return image if indices is None else np.repeat(image, len(indices), axis=0)
        wanted = range(clip.num_frames) if indices is None else indices
        return read_frames(clip.path, [clip.start_frame + index for index in wanted])
    finally:
        check_content(clip)  # it may have been written to meanwhile


def read_frames(path: str | Path, indices: Sequence[int]) -> Frames:
    """Decode the frames with these indices (any order, repeats allowed), and little else: uint8 (T,H,W,3).

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    wanted = sorted(set(indices))
    places = {index: place for place, index in enumerate(wanted)}
    frames: Frames | None = None
    for place, frame in enumerate(iterate_frames(path, wanted)):
        if frames is None:
            frames = np.empty((len(wanted), *frame.shape), dtype=np.uint8)
        if frame.shape != frames.shape[1:]:
            detail = f"frame {wanted[place]} has another size than frame {wanted[0]}; {ONE_SIZE}"
            raise MediaError("unreadable", detail)
        frames[place] = frame
    if frames is None:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    return frames if list(indices) == wanted else frames[[places[index] for index in indices]]
