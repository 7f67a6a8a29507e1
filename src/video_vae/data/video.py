"""Read videos and images: the only module that knows the decoders (PyAV and Pillow).

Frames are found by their time stamps, never by counting after a seek: that is exact for open groups of pictures,
edit lists and transport streams too, where decord silently returns neighbours of the frame that was asked for.
No reader is kept open; only the small index of a file is remembered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from video_vae.data.content import MediaError, check_content, check_exists, message
from video_vae.data.table import Clip, Kind

Frames = NDArray[np.uint8]
"""Frames as a player would show them: uint8 (T,H,W,3), RGB."""

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".jxl", ".pgm", ".png", ".ppm", ".tga", ".tif"}
    | {".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m2v", ".m4v", ".mjpeg"}
    | {".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)

_SEEKABLE = frozenset({"avi", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpegts"})
# containers whose time stamps are the same after a seek; others are decoded from the start

_LISTS = frozenset({"concat", "concatf", "dash", "hls", "image2", "imf", "sdp", "webm_dash_manifest"})
# texts that make FFmpeg open other files; clips hold their own pictures

LARGEST_PIXELS = 1 << 27
"""Largest frame that is decoded, in pixels: a few bytes can announce one that fills the memory."""

SLOWEST, FASTEST = 0.1, 1000.0
"""Frames a second that a video may have; beyond, its time stamps are wrong."""

MISSING_SHARE = 0.05
"""Share of the announced length that may be absent before a video counts as truncated."""

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


@dataclass(frozen=True)
class _Index:
    """Time stamps of all frames of a video in the order shown, and of those where decoding can start.

    `stamps` is empty where the file has no usable ones; then frames can only be counted from the start.
    """

    stamps: tuple[int, ...]
    keys: tuple[int, ...]
    cut: str
    """What says that the file ends too early, or empty."""


def probe(path: str | Path) -> MediaInfo:
    """Find out what a file holds, and that its first, middle and last frame decode.

    Raises:
        MediaError: if it is missing, unreadable or truncated.
    """
    check_exists(path)
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        _, height, width, _ = read_image(path).shape
        return MediaInfo(kind="image", num_frames=1, height=height, width=width, fps=None)
    index = _index(path)
    if index.cut:
        raise MediaError("truncated", index.cut)
    count = len(index.stamps) or sum(1 for _ in _decode_all(path))
    if count == 0:
        raise MediaError("unreadable", "a video stream without frames")
    probes = sorted({0, count // 2, count - 1})
    _, height, width, _ = read_frames(path, probes).shape
    return MediaInfo(kind="video", num_frames=count, height=height, width=width, fps=_rate(path, index))


def _rate(path: str | Path, index: _Index) -> float:
    """Frames a second as announced, or as the time stamps have it where the container repeats frames instead."""
    with _opened(path) as (_, stream):
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
            raise MediaError("unreadable", f"frame {wanted[place]} has another size than frame {wanted[0]}")
        frames[place] = frame
    if frames is None:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    return frames if list(indices) == wanted else frames[[places[index] for index in indices]]


def iterate_frames(path: str | Path, indices: Sequence[int]) -> Iterator[Frames]:
    """Decode frames one by one: uint8 (H,W,3) for each of the strictly increasing `indices`.

    Memory does not grow with their number.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    check_exists(path)
    if not indices:
        return
    index = _index(path)
    if indices[0] < 0 or (index.stamps and indices[-1] >= len(index.stamps)):
        raise MediaError("truncated", f"frame {indices[-1]} asked for, {len(index.stamps)} frames present")
    found = _by_stamp(path, index, indices) if index.stamps else _by_count(path, indices)
    count = 0
    for frame in found:
        count += 1
        yield _rgb(frame)
    if count < len(indices):
        raise MediaError("truncated", f"frame {indices[count]} does not decode")


def _by_stamp(path: str | Path, index: _Index, indices: Sequence[int]) -> Iterator[VideoFrame]:
    """Seek to the key frame before each wanted frame, unless decoding on gets there without passing another."""
    with _opened(path) as (container, stream):
        place = 0
        while place < len(indices):
            for frame in _from_key(container, stream, index, index.stamps[indices[place]]):
                if frame.pts == index.stamps[indices[place]]:
                    yield frame
                    place += 1
                    if place == len(indices) or _key(index, indices[place]) > _key(index, indices[place - 1]) + 1:
                        break
            else:
                break
    if place < len(indices):  # seeking failed or the rest does not decode: only the whole file can tell
        yield from _by_count(path, indices[place:])


def _key(index: _Index, frame: int) -> int:
    return bisect_right(index.keys, index.stamps[frame]) - 1


def _from_key(container: InputContainer, stream: VideoStream, index: _Index, stamp: int) -> Iterator[VideoFrame]:
    """Decode from the last key frame that is shown no later than `stamp`.

    Containers seek by their own notion of time and may land too late: then go back key by key. Frames shown before
    the key frame that decoding started from lean on frames that were skipped; they are dropped.
    """
    for key in range(bisect_right(index.keys, stamp) - 1, -1, -1):
        container.seek(index.keys[key], stream=stream, backward=True)
        packets = container.demux(stream)
        first = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
        if first is None or first.pts not in index.keys or first.pts > stamp:
            continue
        for packet in chain((first,), packets):
            for frame in packet.decode():
                if isinstance(frame, VideoFrame) and frame.pts is not None and frame.pts >= first.pts:
                    yield frame
        return


def _by_count(path: str | Path, indices: Sequence[int]) -> Iterator[VideoFrame]:
    wanted = iter(indices)
    following = next(wanted)
    for index, frame in enumerate(_decode_all(path)):
        if index == following:
            yield frame
            try:
                following = next(wanted)
            except StopIteration:
                return


def _decode_all(path: str | Path) -> Iterator[VideoFrame]:
    with _opened(path) as (container, stream):
        yield from container.decode(stream)


def _index(path: str | Path) -> _Index:
    try:
        status = Path(path).stat()
    except OSError:
        raise MediaError("missing", "no such file") from None
    return _scan(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _scan(path: str, size: int, changed: int) -> _Index:
    """List the time stamps of all packets without decoding them (`size` and `changed` make a new file a new key)."""
    del size, changed
    stamps: list[int | None] = []
    keys: list[int] = []
    problem = ""
    with _opened(path) as (container, stream):
        seekable = container.format.name in _SEEKABLE
        if container.format.name == "avi":  # its time stamps are those of decoding
            seekable = not stream.codec_context.has_b_frames
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
                    if packet.is_keyframe and packet.pts is not None:
                        keys.append(packet.pts)
        except av.FFmpegError as error:
            problem = f"reading stops after {len(stamps)} frames: {message(error)}"
        problem = problem or _shortfall(container, stream, stamps)
    known = sorted(stamp for stamp in stamps if stamp is not None and keys and stamp >= min(keys))
    regular = None not in stamps and len(set(known)) == len(known) and seekable
    return _Index(tuple(known) if regular else (), tuple(sorted(keys)), problem)


def _shortfall(container: InputContainer, stream: VideoStream, stamps: Sequence[int | None]) -> str:
    """Compare the time that the frames span with what the container announces."""
    base = stream.time_base
    known = [stamp for stamp in stamps if stamp is not None]
    if base is None or not known:
        return ""
    length = 0.0
    if stream.frames and stream.average_rate:
        length = float(stream.frames / stream.average_rate)
    elif stream.metadata.get("DURATION"):
        hours, minutes, seconds = (float(part) for part in stream.metadata["DURATION"].split(":"))
        length = hours * 3600 + minutes * 60 + seconds
    present = float((max(known) - min(known)) * base)
    fps = (len(known) - 1) / present if present else 25.0
    if length - present > MISSING_SHARE * length + 2 / fps and len(stamps) != stream.frames:
        return f"{length:.1f} s announced, {present:.1f} s present"
    return ""


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first moving picture of a file, for one thread (many files are read at once)."""
    try:
        # `file:` and the list of protocols: a name or a playlist must not make FFmpeg open something else
        options = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise _unopened(path, f"cannot be opened as a video: {message(error)}") from None
    with container:
        stream = _first_picture(path, container)
        stream.codec_context.thread_count = 1
        try:
            yield container, stream
        except (av.FFmpegError, ValueError, OSError) as error:
            raise MediaError("truncated", f"decoding stops: {message(error)}") from None
        except IndexError:  # PyAV, where packets belong to a stream that it has not heard of
            raise MediaError("unreadable", "a stream begins that the head of the file does not announce") from None


def _first_picture(path: str | Path, container: InputContainer) -> VideoStream:
    if _LISTS & set(container.format.name.split(",")):
        raise MediaError("unreadable", f"a list of other files ({container.format.name}); name those themselves")
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise _unopened(path, "no video stream")
    if streams[0].codec_context is None:
        raise MediaError("unreadable", "a video stream of a kind that no decoder is known for")
    _check_size(streams[0].width, streams[0].height)
    return streams[0]


def _check_size(width: int, height: int) -> None:
    if width * height > LARGEST_PIXELS:
        raise MediaError("unreadable", f"frames of {width}x{height} pixels, more than {LARGEST_PIXELS:,}")


def _unopened(path: str | Path, detail: str) -> MediaError:
    if _lacks_end(Path(path)):
        return MediaError("truncated", "the file ends before the index of its frames")
    return MediaError("unreadable", detail)


def _lacks_end(path: Path) -> bool:
    """Tell whether an MP4 or MOV file stops inside a box or without its `moov` box."""
    size, place, boxes = path.stat().st_size, 0, []
    with path.open("rb") as stream:
        while place + 8 <= size:
            stream.seek(place)
            header = stream.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            boxes.append(header[4:8])
            place += length if length >= 8 else size
    return boxes[:1] == [b"ftyp"] and (place > size or b"moov" not in boxes)


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _rgb(frame: VideoFrame) -> Frames:
    """Convert to RGB by the frame's own colour space, and turn it upright."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))


def read_image(path: str | Path) -> Frames:
    """Decode an image as uint8 (1,H,W,3): orientation applied, transparency over white.

    Raises:
        MediaError: if the file is missing or is not a whole image.
    """
    check_exists(path)
    try:
        with Image.open(path) as opened:
            _check_size(*opened.size)
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits a pixel
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(image.convert("RGB"))[None].copy()
    except UnidentifiedImageError:
        raise MediaError("unreadable", "not an image") from None
    except Image.DecompressionBombError as error:
        raise MediaError("unreadable", str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise MediaError("truncated" if "truncated" in str(error) else "unreadable", message(error)) from None
