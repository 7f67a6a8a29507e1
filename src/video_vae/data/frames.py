"""Decode frames of a video, in order or at random places, by their time stamps.

Frames are never counted after a seek: that is exact for edit lists, open groups of pictures and transport streams too.
No reader is kept open; only the small index of a file is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import av
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from video_vae.data.container import Decoder, opened
from video_vae.data.content import MediaError, check_exists
from video_vae.data.frame_folders import frame_files, read_frame_files
from video_vae.data.images import ANIMATED_SUFFIXES, iterate_animation
from video_vae.data.index import VideoIndex, video_index
from video_vae.data.pixels import Frames, to_rgb

_EARLIER = 2
"""Key frames to go back where a seek does not land, or decoding from there does not give the frame."""


class Decoded(NamedTuple):
    """A frame as the decoder gives it, good until the next one is asked for."""

    frame: VideoFrame
    stream: VideoStream
    damaged: bool
    """The decoder marks it, or a frame that it may lean on, as corrupt."""


def iterate_frames(path: str | Path, indices: Sequence[int], *, whole: bool = False) -> Iterator[Frames]:
    """Decode frames one by one: uint8 (H,W,3) for each of the strictly increasing `indices`.

    Memory does not grow with their number. With `whole`, frames that the decoder marks as damaged are refused.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    if Path(path).is_dir():
        files = frame_files(Path(path))
        if indices and indices[-1] >= len(files):
            raise MediaError("truncated", f"frame {indices[-1]} asked for, {len(files)} frames present")
        yield from (read_frame_files([files[index]])[0] for index in indices)
        return
    if Path(path).suffix.lower() in ANIMATED_SUFFIXES:
        yield from iterate_animation(path, indices)
        return
    converter = VideoReformatter()
    for index, (frame, stream, damaged) in zip(indices, decode_frames(path, indices), strict=False):
        if whole and damaged:
            raise MediaError("damaged", f"the decoder marks frame {index}, or one that it depends on, as corrupt")
        yield to_rgb(frame, stream, converter)


def decode_frames(path: str | Path, indices: Sequence[int] | None = None) -> Iterator[Decoded]:
    """Decode the frames with these strictly increasing indices, or all, without conversion.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    check_exists(path)
    index = video_index(path)
    if indices is None and index.stamps:
        indices = range(len(index.stamps))
    if indices is not None and not indices:
        return
    if indices is not None and (indices[0] < 0 or (index.stamps and indices[-1] >= len(index.stamps))):
        raise MediaError("truncated", f"frame {indices[-1]} asked for, {len(index.stamps)} frames present")
    with _Reader(path, index) as reader:
        if indices is None:
            yield from map(reader.decoded, reader.from_start())
        elif index.stamps:
            yield from _by_stamp(reader, indices)
        else:
            yield from _by_count(reader, indices)


def count_frames(path: str | Path) -> int:
    """Count the frames of a file by decoding them.

    Raises:
        MediaError: if it is missing or cannot be opened.
    """
    with _Reader(path, video_index(path)) as reader:
        return sum(1 for _ in reader.from_start())


class _Reader:
    """A file that is open for decoding."""

    def __init__(self, path: str | Path, index: VideoIndex) -> None:
        self.index = index
        self._path = path
        self._stack = ExitStack()
        self._fresh = False

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def _open(self) -> None:
        self._stack.close()
        self._container, self._stream = self._stack.enter_context(opened(self._path))
        self.decoder = Decoder(self._stream)
        self._fresh = True

    def decoded(self, frame: VideoFrame) -> Decoded:
        """Say of the last frame what else is known of it."""
        return Decoded(frame, self._stream, self.decoder.damaged)

    def from_start(self) -> Iterator[VideoFrame]:
        """Decode from the start of the file."""
        if not self._fresh:
            self._open()
        self._fresh = False
        return self.decoder.frames(self._container.demux(self._stream), self.index.lead)

    def from_key(self, number: int) -> Iterator[VideoFrame] | None:
        """Decode from a key frame, or from one before it; None where no seek lands there.

        Containers seek by their own notion of time and may land too late: then the seek goes to an earlier key.
        """
        self._fresh = False
        keys = {(key.position, key.pts) for key in self.index.keys[: number + 1]}
        for target in self.index.keys[number : max(0, number - _EARLIER - 1) : -1]:
            try:
                self._container.seek(target.target, stream=self._stream, backward=True)
            except av.FFmpegError:  # not there, or not in this file
                continue
            packets = self._container.demux(self._stream)
            first = next((packet for packet in packets if packet.size and packet.is_keyframe), None)
            if first is not None and (first.pos, first.pts) in keys:
                return self.decoder.frames(chain((first,), packets))
        return None

    def missing(self, frame: int, *, later: bool = False) -> MediaError:
        """Say that a frame does not come; `later` tells that others do after it."""
        what = f"frame {frame} does not decode"
        failure = f" ({self.decoder.failure})" if self.decoder.failure else ""
        if later:
            return MediaError("damaged", f"{what}{failure}")
        return MediaError("truncated", f"decoding stops: {what}{failure}" if failure else what)


def _by_stamp(reader: _Reader, indices: Sequence[int]) -> Iterator[Decoded]:
    """Seek to the key frame before each wanted frame, unless decoding on gets there without passing another."""
    index = reader.index
    place = tries = 0
    while place < len(indices):
        reached, key = place, index.key_of(indices[place])
        start = key - tries if tries <= _EARLIER else 0
        frames = reader.from_key(start) if start > 0 else None
        from_start, later = frames is None, False
        for frame in frames if frames is not None else reader.from_start():
            wanted = index.stamps[indices[place]]
            later = later or (frame.pts is not None and frame.pts > wanted)
            if later and not from_start:
                break  # it leans on frames ahead of the key frame
            if frame.pts == wanted:
                yield reader.decoded(frame)
                place += 1
                if place == len(indices):
                    return
                before, key = key, index.key_of(indices[place])
                if key > before + 1:
                    break
        if place == reached and from_start:
            raise reader.missing(indices[place], later=later)
        tries = 0 if place > reached else tries + 1


def _by_count(reader: _Reader, indices: Sequence[int]) -> Iterator[Decoded]:
    """Decode from the start, and count."""
    place = 0
    for number, frame in enumerate(reader.from_start()):
        if number == indices[place]:
            yield reader.decoded(frame)
            place += 1
            if place == len(indices):
                return
    raise reader.missing(indices[place])
