"""Decode frames of a video, in order or at random places, by their time stamps.

Frames are never counted after a seek: that is exact for open groups of pictures and transport streams too. No reader
is kept open; only the small index of a file is remembered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from video_vae.data.container import opened
from video_vae.data.content import MediaError, check_exists
from video_vae.data.images import ANIMATED_SUFFIXES, iterate_animation
from video_vae.data.packets import PacketIndex, packet_index
from video_vae.data.pixels import Frames, to_rgb

Decoded = tuple[VideoFrame, VideoStream]
"""A frame as the decoder gives it and the stream that it comes from; good until the next one is asked for."""


def iterate_frames(path: str | Path, indices: Sequence[int]) -> Iterator[Frames]:
    """Decode frames one by one: uint8 (H,W,3) for each of the strictly increasing `indices`.

    Memory does not grow with their number.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    if Path(path).suffix.lower() in ANIMATED_SUFFIXES:
        yield from iterate_animation(path, indices)
        return
    for frame, stream in decode_frames(path, indices):
        yield to_rgb(frame, stream)


def decode_frames(path: str | Path, indices: Sequence[int]) -> Iterator[Decoded]:
    """Decode the frames with these strictly increasing indices, without conversion.

    Raises:
        MediaError: if the file is missing, cannot be opened, or a frame does not decode.
    """
    check_exists(path)
    if not indices:
        return
    index = packet_index(path)
    if indices[0] < 0 or (index.stamps and indices[-1] >= len(index.stamps)):
        raise MediaError("truncated", f"frame {indices[-1]} asked for, {len(index.stamps)} frames present")
    count = 0
    for decoded in _by_stamp(path, index, indices) if index.stamps else _by_count(path, indices):
        count += 1
        yield decoded
    if count < len(indices):
        raise MediaError("truncated", f"frame {indices[count]} does not decode")


def count_frames(path: str | Path) -> int:
    """Count the frames of a file by decoding them."""
    return sum(1 for _ in _decode_all(path))


def _by_stamp(path: str | Path, index: PacketIndex, indices: Sequence[int]) -> Iterator[Decoded]:
    """Seek to the key frame before each wanted frame, unless decoding on gets there without passing another."""
    with opened(path) as (container, stream):
        place = 0
        while place < len(indices):
            for frame in _from_key(container, stream, index, index.stamps[indices[place]]):
                if frame.pts == index.stamps[indices[place]]:
                    yield frame, stream
                    place += 1
                    if place == len(indices) or _key(index, indices[place]) > _key(index, indices[place - 1]) + 1:
                        break
            else:
                break
    if place < len(indices):  # seeking failed or the rest does not decode: only the whole file can tell
        yield from _by_count(path, indices[place:])


def _key(index: PacketIndex, frame: int) -> int:
    return bisect_right(index.keys, index.stamps[frame]) - 1


def _from_key(container: InputContainer, stream: VideoStream, index: PacketIndex, stamp: int) -> Iterator[VideoFrame]:
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


def _by_count(path: str | Path, indices: Sequence[int]) -> Iterator[Decoded]:
    wanted = iter(indices)
    following = next(wanted)
    for index, decoded in enumerate(_decode_all(path)):
        if index == following:
            yield decoded
            try:
                following = next(wanted)
            except StopIteration:
                return


def _decode_all(path: str | Path) -> Iterator[Decoded]:
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield frame, stream
