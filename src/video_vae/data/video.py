"""Read videos and images, whole clips or any frames of them, and find out what a file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from video_vae.data.content import MediaError, check_exists
from video_vae.data.decord_reader import iterate_decord
from video_vae.data.frame_folders import FRAME_RATE, frame_files, is_frame_folder
from video_vae.data.frames import count_frames, decode_frames, iterate_frames
from video_vae.data.identity import check_content
from video_vae.data.images import is_still_gif, probe_image, read_image
from video_vae.data.index import video_index
from video_vae.data.pixels import Frames, Handling, picture_handling, to_rgb
from video_vae.data.rates import FASTEST, SLOWEST
from video_vae.data.suffixes import IMAGE_SUFFIXES
from video_vae.data.table import Clip, Kind, Reader
from video_vae.data.times import uneven_times

DECODED_BYTES = 24 << 20
"""Decoded frames that decord gives at once: 17 of 4K are 400 MB."""
_ONE_SIZE = "make a copy of one size: ffmpeg -i FILE new.mp4"

See = Callable[[Frames], Frames]
"""What becomes of each frame: uint8 (1,H,W,3) to (1,h,w,3), such as `transform.look`."""


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
    reader: Reader = "pyav"
    """What reads it."""


def probe(path: str | Path) -> MediaInfo:
    """Find out what a file holds, and that its first, middle and last frame decode.

    Raises:
        MediaError: if it is missing, unreadable or truncated, or one of these frames is damaged.
    """
    return _probe(path, every_frame=False)


def probe_every_frame(path: str | Path) -> MediaInfo:
    """Find out what a file holds, and that all of its frames decode, once each.

    Raises:
        MediaError: if it is missing, unreadable or truncated, a frame is damaged or has another size than the first.
    """
    return _probe(path, every_frame=True)


def _probe(path: str | Path, *, every_frame: bool) -> MediaInfo:
    if Path(path).is_dir() and is_frame_folder(Path(path)):
        return _probe_folder(path, every_frame=every_frame)
    check_exists(path)
    if Path(path).suffix.lower() in IMAGE_SUFFIXES or is_still_gif(path):
        return _probe_image(path)
    index = video_index(path)
    if index.cut:
        raise MediaError("truncated", index.cut)
    if not SLOWEST <= index.rate < FASTEST:
        raise MediaError("unreadable", f"its time stamps give {index.rate:.3g} frames per second")
    count, indices = len(index.stamps), None
    if not every_frame:
        count = count or count_frames(path)
        indices = sorted({0, count // 2, count - 1}) if count else []
    seen, (height, width), handling = _look(path, indices)
    if not seen:
        raise MediaError("unreadable", "a video stream without frames")
    if index.edited:
        handling.add("edited")
    return MediaInfo(
        kind="video",
        num_frames=seen if every_frame else count,
        height=height,
        width=width,
        fps=index.rate,
        times=uneven_times(path, seen if every_frame else count, index.rate),
        handling=tuple(sorted(handling)),
    )


def _look(path: str | Path, indices: Sequence[int] | None) -> tuple[int, tuple[int, int], set[Handling]]:
    """Decode some frames, or all; return their number, their height and width as shown, and what is done to them."""
    count, size = 0, (0, 0)
    kinds: set[tuple[object, ...]] = set()
    handling: set[Handling] = set()
    for frame, stream, _ in decode_frames(path, indices):
        number = count if indices is None else indices[count]
        if frame.is_corrupt:
            raise MediaError("damaged", f"the decoder marks frame {number} as corrupt")
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_trc, frame.rotation)
        if kind not in kinds:  # one of each is converted
            kinds.add(kind)
            handling |= set(picture_handling(frame, stream))
            height, width, _ = to_rgb(frame, stream).shape
            if count and (height, width) != size:
                raise MediaError("unreadable", f"frame {number} has another size than frame 0; {_ONE_SIZE}")
            size = (height, width)
        count += 1
    return count, size, handling


def _probe_folder(path: str | Path, *, every_frame: bool) -> MediaInfo:
    """Find out what a folder of frames holds; nothing tells their rate but the table that names it."""
    count = len(frame_files(Path(path)))
    seen = range(count) if every_frame else sorted({0, count // 2, count - 1})
    size = None
    for number, frame in zip(seen, iterate_frames(path, seen), strict=True):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise MediaError("unreadable", f"frame {number} has another size than frame 0; scale them to one")
    height, width = size or (0, 0)
    return MediaInfo(kind="video", num_frames=count, height=height, width=width, fps=FRAME_RATE, reader="pillow")


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
        reader="pillow",
    )


def read_clip(clip: Clip, indices: Sequence[int] | None = None) -> Frames:
    """Read frames of a clip, by their index from the start of the clip; all frames where none are named.

    Raises:
        MediaError: if the file is gone or another than the table was made from, or a frame cannot be decoded whole.
    """
    wanted = range(clip.num_frames) if indices is None else indices
    if not wanted:
        return np.empty((0, clip.height, clip.width, 3), dtype=np.uint8)
    unique = sorted(set(wanted))
    (frames,) = iterate_clip(clip, unique, len(unique))
    return _arranged(frames, unique, wanted)


def iterate_clip(clip: Clip, indices: Sequence[int], size: int, see: See | None = None) -> Iterator[Frames]:
    """Read frames of a clip, by non-decreasing indices, in pieces of `size` frames: uint8 (t,H,W,3).

    The file is opened once and each frame is decoded once. With `see`, pieces hold what it makes of each frame, and few
    decoded frames are held.

    Raises:
        MediaError: if the file is gone or another than the table was made from, or a frame cannot be decoded whole.
    """
    check_content(clip)
    try:
        if clip.kind == "image":
            image = read_image(clip.path)
            image = image if see is None else see(image)
            for start in range(0, len(indices), size):
                yield np.repeat(image, len(indices[start : start + size]), axis=0)
        else:
            wanted = [clip.start_frame + index for index in indices]
            if clip.reader != "decord":
                yield from iterate_pieces(clip.path, wanted, size, whole=True, see=see)
            elif see is None:
                yield from iterate_decord(clip.path, wanted, size)
            else:
                held = max(1, DECODED_BYTES // (3 * clip.height * clip.width))
                frames = chain.from_iterable(iterate_decord(clip.path, _different(wanted), held))
                yield from _in_pieces(frames, wanted, size, see)
    except MediaError:
        check_content(clip)  # it may have been written to meanwhile
        raise
    check_content(clip)


def read_frames(path: str | Path, indices: Sequence[int]) -> Frames:
    """Decode the frames with these indices (any order, repeats allowed) and few others: uint8 (T,H,W,3).

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    if not indices:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    unique = sorted(set(indices))
    (frames,) = iterate_pieces(path, unique, len(unique))
    return _arranged(frames, unique, indices)


def iterate_pieces(
    path: str | Path, indices: Sequence[int], size: int, *, whole: bool = False, see: See | None = None
) -> Iterator[Frames]:
    """Decode frames, by non-decreasing indices, in pieces of `size` frames: uint8 (t,H,W,3); each is decoded once.

    With `whole`, frames that the decoder marks as damaged are refused. `see` is as in `iterate_clip`.

    Raises:
        MediaError: if the file is missing, cannot be opened, a frame does not decode or has another size.
    """
    yield from _in_pieces(iterate_frames(path, _different(indices), whole=whole), indices, size, see)


def _different(indices: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(indices))


def _in_pieces(frames: Iterator[Frames], indices: Sequence[int], size: int, see: See | None) -> Iterator[Frames]:
    """Put frames (H,W,3) together, of which there is one for each different index."""
    number, frame, shape = None, np.empty(0, np.uint8), None
    for start in range(0, len(indices), size):
        piece = None
        for place, index in enumerate(wanted := indices[start : start + size]):
            if index != number:
                number, frame = index, next(frames)
                shape = shape or frame.shape
                if frame.shape != shape:
                    detail = f"frame {index} has another size than frame {indices[0]}; {_ONE_SIZE}"
                    raise MediaError("unreadable", detail)
                frame = frame if see is None else see(frame[None])[0]
            if piece is None:
                piece = np.empty((len(wanted), *frame.shape), dtype=np.uint8)
            piece[place] = frame
        if piece is not None:
            yield piece


def _arranged(frames: Frames, found: Sequence[int], wanted: Sequence[int]) -> Frames:
    """Bring frames with the indices `found` into the wanted order."""
    if list(wanted) == list(found):
        return frames
    places = {index: place for place, index in enumerate(found)}
    return frames[[places[index] for index in wanted]]
