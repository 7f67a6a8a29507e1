"""Open videos and decode their packets: of the stream that is shown, and of nothing but the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from video_vae.data.content import MediaError, check_size, extent_of, message
from video_vae.tar_members import byte_size, open_bytes

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
"""FFmpeg's name for MP4 and its relatives."""
MATROSKA = "matroska,webm"
"""FFmpeg's name for Matroska and WebM."""

_LISTS = frozenset({"concat", "concatf", "dash", "hls", "image2", "imf", "sdp", "webm_dash_manifest"})
# texts that make FFmpeg open other files; clips hold their own pictures


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first moving picture of a file, for one thread (many files are read at once)."""
    extent = extent_of(path)
    name, protocols = f"file:{path}", "file"
    if extent is not None:  # FFmpeg's own window of a file: as fast as the file itself
        end = extent.start + extent.size
        name, protocols = f"subfile,,start,{extent.start},end,{end},,:file:{extent.shard}", "subfile,file"
    try:
        # `file:` and the list of protocols: a name or a playlist must not make FFmpeg open something else
        options = {"protocol_whitelist": protocols}
        container = av.open(name, metadata_errors="replace", options=options)
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
            raise MediaError("unreadable", "a stream begins that the file's header does not announce") from None


def _first_picture(path: str | Path, container: InputContainer) -> VideoStream:
    if _LISTS & set(container.format.name.split(",")):
        raise MediaError("unreadable", f"a list of other files ({container.format.name}); name those themselves")
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise _unopened(path, "no video stream")
    if streams[0].codec_context is None:
        raise MediaError("unreadable", "a video stream that no decoder supports")
    check_size(streams[0].width, streams[0].height)
    return streams[0]


def _unopened(path: str | Path, detail: str) -> MediaError:
    if _lacks_end(path):
        return MediaError("truncated", "the file ends before the index of its frames")
    return MediaError("unreadable", detail)


def _lacks_end(path: str | Path) -> bool:
    """Tell whether an MP4 or MOV file stops inside a box or without its `moov` box."""
    size, place, boxes = byte_size(path), 0, []
    with open_bytes(path) as stream:
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


class Decoder:
    """Decode packets as players do: go on after one that is broken.

    `damaged` tells of the last frame whether the decoder marks it, or one since the last key frame, as corrupt, or
    could not use a packet; `failure` is what it said of the last such packet.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream
        self.damaged = False
        self.failure = ""

    def frames(self, packets: Iterable[Packet], skip: int = 0) -> Iterator[VideoFrame]:
        """Yield the frames in the order shown; `skip` leaves out as many packets."""
        filled = (packet for packet in packets if packet.size)  # empty ones say that the last frame stays
        self.damaged = False
        for packet in chain(islice(filled, skip, None), (None,)):
            try:
                frames = self.stream.decode(packet)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self.damaged, self.failure = True, message(error)
                continue
            for frame in frames:
                self.damaged = frame.is_corrupt or (self.damaged and not frame.key_frame)
                yield frame
