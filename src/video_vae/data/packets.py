"""List the packets of a video with what their container and their own bytes say of them, without decoding any."""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video_vae.data.bitstream import READ_CODECS, headers, is_hidden, needed_headers, starts_decoding
from video_vae.data.content import message


@dataclass(frozen=True, slots=True)
class Packet:
    """One compressed picture; times in the stream's time base, None where unknown."""

    pts: int | None
    dts: int | None
    position: int | None
    """Place in the file, in bytes."""
    duration: int
    marked: bool
    """The container calls it a key frame."""
    key: bool
    """Decoding may start here."""
    discarded: bool
    """It lies outside of what an edit list keeps."""
    hidden: bool
    """It holds a picture that others refer to and nobody sees."""

    @property
    def shown(self) -> bool:
        """Tell whether a frame comes of it."""
        return not (self.discarded or self.hidden)


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketList:
    """All packets of a video, in the order of decoding."""

    packets: list[Packet]
    from_start: bool
    """Decoders need the first packet: later key frames lack what it tells."""
    problem: str
    """What stopped the reading, or empty."""


def read_packets(container: InputContainer, stream: VideoStream) -> PacketList:
    """Read all packets of a stream."""
    packets: list[Packet] = []
    needed: frozenset[bytes] | None = None
    from_start, problem = False, ""
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            key = packet.is_keyframe
            if key and stream.codec_context.name in READ_CODECS:
                data = bytes(packet)
                key = starts_decoding(stream, data)
                if needed is None:
                    needed = needed_headers(stream, data)
                elif needed:
                    from_start = from_start or not needed <= headers(stream, data)
            packets.append(
                Packet(
                    pts=packet.pts,
                    dts=packet.dts,
                    position=packet.pos,
                    duration=packet.duration or 0,
                    marked=packet.is_keyframe,
                    key=key,
                    discarded=packet.is_discard,
                    hidden=is_hidden(stream, memoryview(packet)),
                )
            )
    except av.FFmpegError as error:
        problem = f"reading stops after {len(packets)} frames: {message(error)}"
    return PacketList(packets=packets, from_start=from_start, problem=problem)
