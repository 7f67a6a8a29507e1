"""The frame rate and the length of a video, as announced and as its packets have it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from av.container import InputContainer
from av.video.stream import VideoStream

from video_vae.data.container import MATROSKA, MOV
from video_vae.data.packets import Packet
from video_vae.tar_members import byte_size, open_bytes

SLOWEST, FASTEST = 0.1, 1000.0
"""Frames per second that a video may have; beyond, its time stamps are wrong."""

RATE_TOLERANCE = 0.05
"""Share by which the announced frame rate may differ from the time stamps' before they are believed instead."""

MISSING_SHARE = 0.05
"""Share of the announced length that may be absent before a video counts as truncated."""

STOP_SECONDS, STOP_STEPS = 1.0, 10.0
"""A recorder was stopped where more time than both passes between two frames: seconds, and times the usual step."""

_SEGMENT, _HEAD_BYTES = b"\x18\x53\x80\x67", 4096


def frame_rate(container: InputContainer, stream: VideoStream, packets: Sequence[Packet]) -> float:
    """Return frames per second: as announced, or as the packets have it where they say otherwise.

    Steps back in time and stops of the recorder do not count, unless a stop is nearly all there is.
    """
    announced = float(stream.average_rate or stream.guessed_rate or 25)
    shown = [packet for packet in packets if packet.shown]
    seconds, frames = _spent(_steps(shown, float(stream.time_base or 0), edits=container.format.name == MOV))
    if not seconds and len(shown) > 1:  # no usable time stamps
        seconds, frames = (container.duration or 0) / 1e6, len(shown)
    measured = frames / seconds if seconds else announced
    return announced if abs(measured / announced - 1) < RATE_TOLERANCE else round(measured, 3)


def _steps(packets: Sequence[Packet], base: float, *, edits: bool) -> list[tuple[float, int]]:
    """List how many seconds pass in how many frames, from each packet whose time is known to the next.

    Where times of decoding go back, the usual step alone is believed; `edits` tells that frames follow their stamps.
    """
    decoded = [(place, packet.dts) for place, packet in enumerate(packets) if packet.dts is not None]
    shown = sorted(packet.pts for packet in packets if packet.pts is not None)
    back = any(later[1] < earlier[1] for earlier, later in pairwise(decoded))
    times = list(enumerate(shown)) if len(shown) == len(packets) and (edits or not back) else decoded
    steps = [((later[1] - earlier[1]) * base, later[0] - earlier[0]) for earlier, later in pairwise(times)]
    steps = [(seconds, frames) for seconds, frames in steps if seconds >= 0]  # the recorder was started again
    usual = [seconds / frames for seconds, frames in steps if seconds] if back else []
    return [(median(usual), 1)] if usual else steps


def _spent(steps: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """Sum up seconds and frames, without the time in which nothing was recorded."""
    total, count = sum(seconds for seconds, _ in steps), sum(frames for _, frames in steps)
    if not total or count / total < SLOWEST:
        return total, count
    usual = median(seconds / frames for seconds, frames in steps if seconds)
    kept = [(seconds, frames) for seconds, frames in steps if seconds <= max(STOP_SECONDS, STOP_STEPS * usual * frames)]
    return sum(seconds for seconds, _ in kept), sum(frames for _, frames in kept)


def shortfall(path: str, container: InputContainer, stream: VideoStream, packets: Sequence[Packet]) -> str:
    """Say how much less than announced a file holds, or return an empty text."""
    if container.format.name == MOV:
        announced, present = len(stream.index_entries), len(packets)
        if announced - present > MISSING_SHARE * announced + 2:
            return f"{announced} frames announced, {present} present"
        return ""
    known = [packet.pts for packet in packets if packet.pts is not None]
    if stream.time_base is None or not known or len(packets) == stream.frames:
        return ""
    present_seconds = float((max(known) - min(known)) * stream.time_base)
    fps = (len(known) - 1) / present_seconds if present_seconds else 25.0
    length = 0.0
    if stream.frames and stream.average_rate:
        length = float(stream.frames / stream.average_rate)
    elif container.format.name == MATROSKA and not _is_whole(path):
        length = _seconds(stream.metadata.get("DURATION", ""))
        if min(known) * stream.time_base < length:  # some write the time of the end
            present_seconds = float(max(known) * stream.time_base)
    if length - present_seconds > MISSING_SHARE * length + 2 / fps:
        return f"{length:.1f} s announced, {present_seconds:.1f} s present"
    return ""


def _is_whole(path: str) -> bool:
    """Tell whether a Matroska file holds as many bytes as its segment announces."""
    with open_bytes(path) as stream:
        head = stream.read(_HEAD_BYTES)
    place = head.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or place >= len(head) or not head[place]:
        return False
    width = 9 - head[place].bit_length()
    size = int.from_bytes(head[place : place + width], "big") - (1 << 7 * width)
    unknown = size == (1 << 7 * width) - 1
    return unknown or place + width + size <= byte_size(path)


def _seconds(clock: str) -> float:
    """Read hours:minutes:seconds; 0 where it is something else."""
    try:
        hours, minutes, seconds = (float(part) for part in clock.split(":"))
    except ValueError:
        return 0.0
    return hours * 3600 + minutes * 60 + seconds
