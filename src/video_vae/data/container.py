"""Open videos for decoding: the stream that is shown, and nothing but the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video_vae.data.content import MediaError, check_size, message

_LISTS = frozenset({"concat", "concatf", "dash", "hls", "image2", "imf", "sdp", "webm_dash_manifest"})
# texts that make FFmpeg open other files; clips hold their own pictures


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
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
    check_size(streams[0].width, streams[0].height)
    return streams[0]


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
