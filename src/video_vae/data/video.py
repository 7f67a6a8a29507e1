"""Read videos and images, whole clips or any frames of them, and find out what a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from video_vae.data.content import MediaError, check_exists
from video_vae.data.frame_folders import FRAME_RATE, frame_files, is_frame_folder
from video_vae.data.frames import count_frames, decode_frames, iterate_frames
from video_vae.data.identity import check_content
from video_vae.data.images import ANIMATED_SUFFIXES, is_still_gif, probe_image, read_image
from video_vae.data.index import video_index
from video_vae.data.pixels import Frames, Handling, picture_handling, to_rgb
from video_vae.data.rates import FASTEST, SLOWEST
from video_vae.data.suffixes import IMAGE_SUFFIXES
from video_vae.data.table import Clip, Kind
from video_vae.data.times import uneven_times

_ONE_SIZE = "make a copy of one size: ffmpeg -i FILE new.mp4"


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaInfo:
    """What a file holds; sizes in pixels as shown, `fps` None for an image."""

    kind: Kind
    num_frames: int
    height: int
    width: int
    fps: float | None
    times: tuple[float, ...] = ()
    """When each frame is shown, in seconds from the first; empty where `fps` alone tells."""
    handling: tuple[Handling, ...] = ()
    """What is done so that it is read as a player shows it, in the order of the alphabet."""


def probe(path: str | Path) -> MediaInfo:
    """Find out what a file holds, and that its first, middle and last frame decode.

    Raises:
        MediaError: if it is missing, unreadable or truncated.
    """
    if Path(path).is_dir() and is_frame_folder(Path(path)):
        return _probe_folder(path)
    check_exists(path)
    if Path(path).suffix.lower() in IMAGE_SUFFIXES or is_still_gif(path):
        return _probe_image(path)
    index = video_index(path)
    if index.cut:
        raise MediaError("truncated", index.cut)
    if not SLOWEST <= index.rate < FASTEST:
        raise MediaError("unreadable", f"its time stamps give {index.rate:.3g} frames a second")
    count = len(index.stamps) or count_frames(path)
    if count == 0:
        raise MediaError("unreadable", "a video stream without frames")
    height, width, handling = _look(path, sorted({0, count // 2, count - 1}))
    if index.edited:
        handling.add("edited")
    return MediaInfo(
        kind="video",
        num_frames=count,
        height=height,
        width=width,
        fps=index.rate,
        times=uneven_times(path, count, index.rate),
        handling=tuple(sorted(handling)),
    )


def _look(path: str | Path, indices: Sequence[int]) -> tuple[int, int, set[Handling]]:
    """Decode some frames; return their height and width, and what is done to them."""
    sizes: list[tuple[int, int]] = []
    handling: set[Handling] = set()
    for index, (frame, stream, _) in zip(indices, decode_frames(path, indices), strict=True):
        _check_whole(frame, index)
        height, width, _ = to_rgb(frame, stream).shape
        sizes.append((height, width))
        handling |= set(picture_handling(frame, stream))
    if len(set(sizes)) > 1:
        raise MediaError("unreadable", f"its first, middle and last frame are not of one size; {_ONE_SIZE}")
    return *sizes[0], handling


def _probe_folder(path: str | Path) -> MediaInfo:
    """Find out what a folder of frames holds; nothing tells their rate but the table that names it."""
    count = len(frame_files(Path(path)))
    ends = list(iterate_frames(path, sorted({0, count // 2, count - 1})))
    if len({frame.shape for frame in ends}) > 1:
        raise MediaError("unreadable", "its first, middle and last frame are not of one size; scale them to one")
    height, width, _ = ends[0].shape
    return MediaInfo(kind="video", num_frames=count, height=height, width=width, fps=FRAME_RATE)


def _probe_image(path: str | Path) -> MediaInfo:
    info = probe_image(path)
    fps = round(info.num_frames / sum(info.durations), 3) if info.num_frames > 1 else None
    return MediaInfo(
        kind="image" if fps is None else "video",
        num_frames=info.num_frames,
        height=info.height,
        width=info.width,
        fps=fps,
        times=() if fps is None else uneven_times(path, info.num_frames, fps),
        handling=info.handling,
    )


def check_frames(path: str | Path, info: MediaInfo) -> None:
    """Decode all frames of a video, one at a time.

    Raises:
        MediaError: if one does not decode, is damaged, or has another size than the first.
    """
    if Path(path).suffix.lower() in ANIMATED_SUFFIXES:  # probing decodes all of them
        return
    size = None
    for index, (frame, _, _) in enumerate(decode_frames(path, range(info.num_frames))):
        _check_whole(frame, index)
        size = size or (frame.width, frame.height)
        if size != (frame.width, frame.height):
            raise MediaError("unreadable", f"frame {index} has another size than frame 0; {_ONE_SIZE}")


def _check_whole(frame: VideoFrame, index: int) -> None:
    if frame.is_corrupt:
        raise MediaError("damaged", f"the decoder marks frame {index} as corrupt")


def read_clip(clip: Clip, indices: Sequence[int] | None = None) -> Frames:
    """Read frames of a clip, by their index from the start of the clip; all frames where none are named.

    Raises:
        MediaError: if the file is gone or another than the table was made from, or a frame cannot be decoded whole.
    """
    check_content(clip)
    try:
        if clip.kind == "image":
            image = read_image(clip.path)
            return image if indices is None else np.repeat(image, len(indices), axis=0)
        wanted = range(clip.num_frames) if indices is None else indices
        return read_frames(clip.path, [clip.start_frame + index for index in wanted], whole=True)
    finally:
        check_content(clip)  # it may have been written to meanwhile


def read_frames(path: str | Path, indices: Sequence[int], *, whole: bool = False) -> Frames:
    """Decode the frames with these indices (any order, repeats allowed), and little else: uint8 (T,H,W,3).

    With `whole`, frames that the decoder holds for damaged are refused.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    wanted = sorted(set(indices))
    places = {index: place for place, index in enumerate(wanted)}
    frames: Frames | None = None
    for place, frame in enumerate(iterate_frames(path, wanted, whole=whole)):
        if frames is None:
            frames = np.empty((len(wanted), *frame.shape), dtype=np.uint8)
        if frame.shape != frames.shape[1:]:
            detail = f"frame {wanted[place]} has another size than frame {wanted[0]}; {_ONE_SIZE}"
            raise MediaError("unreadable", detail)
        frames[place] = frame
    if frames is None:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    return frames if list(indices) == wanted else frames[[places[index] for index in indices]]
