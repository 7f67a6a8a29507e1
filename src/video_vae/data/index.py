"""The index of a video: when each frame is shown and where decoding can start.

Only the start of odd files is decoded for it. A file is read at random places only where its time stamps prove that
decoding from a key frame gives what decoding from the start gives; otherwise frames are counted from the start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from av.video.stream import VideoStream

from video_vae.data.container import MATROSKA, MOV, Decoder, opened
from video_vae.data.content import check_exists
from video_vae.data.packets import Packet, read_packets
from video_vae.data.rates import frame_rate, shortfall
from video_vae.tar_members import file_of

_SEEKABLE = frozenset({"avi", "flv", MATROSKA, MOV, "mpegts"})
# containers whose time stamps are the same after a seek; others are decoded from the start

_START_FRAMES = 12
"""Frames decoded to see which of them an odd start shows."""

_PROGRESSIVE = 1
"""FFmpeg's number for frames without fields; 0 is unknown, more are the orders of fields."""


@dataclass(frozen=True, slots=True)
class Key:
    """A packet at which decoding can start: when it is shown, its place in the file, and the time to seek to."""

    pts: int
    position: int
    target: int


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """What a video's packets say of its frames."""

    stamps: tuple[int, ...]
    """Time stamps of all frames in the order shown; empty where frames can only be counted from the start."""
    keys: tuple[Key, ...]
    """Where decoding can start, in the order of decoding; for the frames of the first, it starts with the file."""
    lead: int
    """Packets before the first that is marked as a key frame: nothing can be seen of them."""
    cut: str
    """What says that the file ends too early, or empty."""
    ticks: tuple[int, ...]
    """Time stamps of the frames as the packets have them, whether or not decoding can start in between, or none."""
    base: Fraction
    """Seconds per unit of the time stamps."""
    rate: float
    """Frames per second."""
    edited: bool
    """An edit list leaves out some of the pictures in the file."""
    plain: bool = False
    """The one video of an MP4, MOV or Matroska: 8 bits, closed groups, each packet shown once and in time."""

    def key_of(self, frame: int) -> int:
        """Return the last of the `keys` that is shown no later than a frame."""
        return max(0, bisect_right(self.keys, self.stamps[frame], key=lambda key: key.pts) - 1)


def video_index(path: str | Path) -> VideoIndex:
    """Index a video; a file that stays as it is is indexed once.

    Raises:
        MediaError: if it is missing or cannot be opened.
    """
    check_exists(path)
    status = file_of(path).stat()
    return _scan(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _scan(path: str, size: int, changed: int) -> VideoIndex:
    """Index a video (`size` and `changed` make a new file a new key)."""
    del size, changed
    with opened(path) as (container, stream):
        found = read_packets(container, stream)
        packets, name = found.packets, container.format.name
        problem = found.problem or shortfall(path, container, stream, packets)
        lead = next((place for place, packet in enumerate(packets) if packet.marked), 0)
        stamps = tuple(sorted(packet.pts for packet in packets[lead:] if packet.shown and packet.pts is not None))
        index = VideoIndex(
            stamps=(),
            keys=(),
            lead=lead,
            ticks=stamps if _once(packets) and len(set(stamps)) == len(stamps) else (),
            base=stream.time_base or Fraction(1),
            cut=problem,
            rate=frame_rate(container, stream, packets),
            edited=name == MOV and not problem and _left_out(packets, stream.frames),
        )
        fields = stream.codec_context.field_order > _PROGRESSIVE
        # the time stamps of AVI are those of decoding
        seekable = name in _SEEKABLE and not (name == "avi" and stream.codec_context.has_b_frames)
        single = name in (MOV, MATROSKA) and len(container.streams.video) == 1 and _has_8_bits(stream)
    keys = _keys(packets, by_decoding=name == "mpegts")
    if not seekable or found.from_start or not keys or not _in_order(packets):
        return index
    if len(set(stamps)) < len(stamps):
        return index
    odd = packets[0].position != keys[0].position or any(packet.pts is None for packet in packets)
    if odd or fields or stamps[:1] < (keys[0].pts,):
        stamps = _as_shown(path, index.lead, stamps, keys[0].pts)
    plain = single and not odd and len(stamps) == len(packets) and _closed(packets)
    return replace(index, stamps=stamps, keys=keys, plain=plain) if stamps else index


def _has_8_bits(stream: VideoStream) -> bool:
    pixels = stream.codec_context.format
    return pixels is not None and all(component.bits == 8 for component in pixels.components)


def _closed(packets: Sequence[Packet]) -> bool:
    """Tell whether every marked key frame can be decoded from, and all that follow it are shown later."""
    key = packets[0].pts
    for packet in packets:
        if packet.marked:
            key = packet.pts
        if packet.marked != packet.key or key is None or packet.pts is None or packet.pts < key:
            return False
    return True


def _left_out(packets: Sequence[Packet], announced: int) -> bool:
    return any(packet.discarded for packet in packets) or announced > len(packets)


def _keys(packets: Sequence[Packet], *, by_decoding: bool) -> tuple[Key, ...]:
    """List where decoding can start; `by_decoding` tells that the container seeks by the time of decoding."""
    keys = []
    for packet in packets:
        if packet.key and packet.pts is not None and packet.position is not None:
            target = packet.dts if by_decoding and packet.dts is not None else packet.pts
            keys.append(Key(pts=packet.pts, position=packet.position, target=target))
    return tuple(keys)


def _once(packets: Sequence[Packet]) -> bool:
    """Tell whether time never goes back: no edit list shows a part twice, no recorder was started again."""
    places = [packet.position for packet in packets if packet.position is not None]
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    return len(set(places)) == len(places) and all(earlier <= later for earlier, later in pairwise(decoded))


def _in_order(packets: Sequence[Packet]) -> bool:
    """Tell whether time only goes on: then frames are shown in the order of their stamps, wherever decoding starts."""
    if not _once(packets):
        return False
    keys: list[int] = []
    latest: int | None = None
    for packet in packets:
        if packet.pts is None:
            if len(keys) > 1:  # only the start is looked into
                return False
            continue
        if packet.key:
            if latest is not None and packet.pts <= latest:
                return False
            keys.append(packet.pts)
        elif len(keys) > 1 and packet.pts <= keys[-2]:
            return False
        latest = packet.pts if latest is None else max(latest, packet.pts)
    return True


def _as_shown(path: str, lead: int, stamps: tuple[int, ...], first: int) -> tuple[int, ...]:
    """Correct the stamps ahead of the `first` key frame by what decoding shows; empty where it disagrees later on."""
    shown: list[int | None] = []
    with opened(path) as (container, stream):
        for frame in Decoder(stream).frames(container.demux(stream), lead):
            shown.append(frame.pts)
            if len(shown) >= _START_FRAMES and frame.pts is not None and frame.pts > first:
                break
    known = [stamp for stamp in shown if stamp is not None]
    if not known or len(known) < len(shown) or any(later <= earlier for earlier, later in pairwise(known)):
        return ()
    later = tuple(stamp for stamp in stamps if stamp > known[-1])
    expected = [stamp for stamp in stamps if first <= stamp <= known[-1]]
    return (*known, *later) if [stamp for stamp in known if stamp >= first] == expected else ()
