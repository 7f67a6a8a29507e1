"""The index of a video's packets: when each frame is shown and where decoding can start, without decoding any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video_vae.data.container import opened
from video_vae.data.content import MediaError, message

_SEEKABLE = frozenset({"avi", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpegts"})
# containers whose time stamps are the same after a seek; others are decoded from the start

MISSING_SHARE = 0.05
"""Share of the announced length that may be absent before a video counts as truncated."""


@dataclass(frozen=True)
class PacketIndex:
    """Time stamps of all frames of a video in the order shown, and of those where decoding can start.

    `stamps` is empty where the file has no usable ones; then frames can only be counted from the start.
    """

    stamps: tuple[int, ...]
    keys: tuple[int, ...]
    cut: str
    """What says that the file ends too early, or empty."""


def packet_index(path: str | Path) -> PacketIndex:
    """Index a video; a file that stays as it is is indexed once.

    Raises:
        MediaError: if it is missing or cannot be opened.
    """
    try:
        status = Path(path).stat()
    except OSError:
        raise MediaError("missing", "no such file") from None
    return _scan(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _scan(path: str, size: int, changed: int) -> PacketIndex:
    """List the time stamps of all packets without decoding them (`size` and `changed` make a new file a new key)."""
    del size, changed
    stamps: list[int | None] = []
    keys: list[int] = []
    problem = ""
    with opened(path) as (container, stream):
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
    return PacketIndex(tuple(known) if regular else (), tuple(sorted(keys)), problem)


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
