"""Keep frames as files: bit-exact RGB for measuring (FFV1 in Matroska) and small H.264 previews for people.

FFV1 codes RGB through a reversible transform, so what is read is bit for bit what was written. A stored clip holds
its frame count, its exact frame rate, the hash of its pixels (checked on reading, since decoders hide damage) and
whatever the caller adds, as JSON in the container's comment. The same frames give the same bytes: no date, no random
identifier, one encoder thread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.foreign import PREVIEW

STORAGE = "FFV1 level 3, RGB 8 bit (bgr0), Matroska"
COPIED = "copied_from"
"""What a stored clip's note says of its pixels where they were taken from a file that had changed them."""
LOSSLESS_SUFFIX = ".mkv"
PREVIEW_SUFFIX = ".mp4"

_FFV1 = {"level": "3", "coder": "1", "context": "0", "g": "12", "slices": "4", "slicecrc": "1", "flags": "+bitexact"}
_FFV1_FILE = {"fflags": "+bitexact", "write_crc32": "0"}
_H264 = {"crf": "20", "preset": "medium", "profile": "high", "flags": "+bitexact", "x264-params": "mbtree=0"}
"""The macroblock tree of x264 reads memory that it never wrote where frames are small: other bytes each time."""
_SHORT_GROUPS = {"crf": "10", "preset": "medium", "g": "8", "bf": "0", "profile": "high", "flags": "+bitexact"}
_SHORT_GROUPS |= {"x264-params": "mbtree=0:scenecut=0"}
_H264_FILE = {"fflags": "+bitexact", "movflags": "+faststart"}
_BT709 = 1
_HEAD = 1 << 20  # the comment lies within these first bytes
_UNKNOWN = "0" * 64  # comes first in the comment; replaced once the pixels are known, since the header precedes them


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """What a lossless file says of itself."""

    frames: int
    """Number of frames."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    fps: float
    """Frames per second."""
    sha256: str
    """Hash of the pixels: uint8 (T,H,W,3) in C order."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the writer added."""


class _Writer:
    """Encode chunks of frames into one file that appears, whole, when the block ends without an exception."""

    _container: str
    _codec: str
    _pixels: str
    _codec_options: dict[str, str]
    _container_options: Mapping[str, str]

    def __init__(self, path: str | Path, fps: float) -> None:
        if not 0 < fps < 1000:  # Matroska counts in milliseconds
            raise UserError(f"{path}: {fps} frames per second cannot be stored; give a rate between 0 and 1000")
        self._path = Path(path)
        self._fps = float(fps)
        self._stack = ExitStack()
        self._stream: Any = None
        self._shape: tuple[int, ...] | None = None
        self.frames = 0

    def __enter__(self) -> Self:
        self._aside = self._stack.enter_context(atomic_path(self._path))
        try:
            output = av.open(str(self._aside), "w", format=self._container, options=dict(self._container_options))
            self._output = self._stack.enter_context(output)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            return self._stack.__exit__(kind, error, trace)
        with self._stack:
            self._finish()
        return None

    def write(self, frames: np.ndarray) -> None:
        """Append frames: uint8 (T,H,W,3), every chunk of the same size."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 (T,H,W,3), not {frames.dtype} {frames.shape}")
        if self._shape is None:
            self._shape = frames.shape[1:]
            self._open(height=frames.shape[1], width=frames.shape[2])
        elif frames.shape[1:] != self._shape:
            raise ValueError(f"a frame of {frames.shape[1:]} follows frames of {self._shape}")
        for image in frames:
            frame = self._frame(np.ascontiguousarray(image))
            frame.pts = self.frames
            frame.time_base = 1 / _rate(self._fps)
            self._output.mux(self._stream.encode(frame))
            self.frames += 1

    def _open(self, height: int, width: int) -> None:
        self._stream = self._output.add_stream(self._codec, rate=_rate(self._fps), options=dict(self._codec_options))
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = self._pixels
        # one thread: x264's output depends on their number, and the nets want the cores
        self._stream.codec_context.thread_count = 1

    def _frame(self, image: np.ndarray) -> Any:
        return av.VideoFrame.from_ndarray(image, format="rgb24")

    def _finish(self) -> None:
        if not self.frames:
            raise ValueError(f"{self._path}: a clip without frames cannot be stored")
        self._output.mux(self._stream.encode(None))


class LosslessWriter(_Writer):
    """Write a lossless clip chunk by chunk: `with LosslessWriter(path, fps, frames=T) as w: w.write(chunk)`.

    Args:
        path: the .mkv file, which appears only when the block ends without an exception.
        fps: frames per second.
        frames: how many frames will be written; a different number is an error.
        meta: anything that JSON can hold, to be read back as `StoredClip.meta`.
    """

    _container, _codec, _pixels = "matroska", "ffv1", "bgr0"
    _codec_options, _container_options = _FFV1, _FFV1_FILE

    def __init__(self, path: str | Path, fps: float, *, frames: int, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, fps)
        self._promised = frames
        self._meta = dict(meta or {})
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hash of the pixels written so far."""
        return self._hash.hexdigest()

    def write(self, frames: np.ndarray) -> None:
        """Append frames: uint8 (T,H,W,3), every chunk of the same size."""
        super().write(frames)
        self._hash.update(np.ascontiguousarray(frames).data)

    def _open(self, height: int, width: int) -> None:
        super()._open(height, width)
        note = {"frames": self._promised, "fps": self._fps, "content_sha256": _UNKNOWN, "meta": self._meta}
        self._output.metadata["comment"] = json.dumps(note, sort_keys=True, separators=(",", ":"))

    def _finish(self) -> None:
        if self.frames != self._promised:
            raise ValueError(f"{self._path}: {self.frames} frames written, {self._promised} promised")
        super()._finish()
        self._output.close()
        with self._aside.open("r+b") as stream:
            head = stream.read(_HEAD)
            stream.seek(head.index(_UNKNOWN.encode()))
            stream.write(self.sha256.encode())


class PreviewWriter(_Writer):
    """Write an H.264 preview chunk by chunk: yuv420p, playable while it loads; odd sides repeat their last pixel."""

    _container, _codec, _pixels = "mp4", "libx264", "yuv420p"
    _codec_options, _container_options = _H264, _H264_FILE

    def write(self, frames: np.ndarray) -> None:
        """Append frames: uint8 (T,H,W,3), every chunk of the same size."""
        odd = (frames.shape[1] % 2, frames.shape[2] % 2)
        if any(odd):
            frames = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        super().write(frames)

    def _open(self, height: int, width: int) -> None:
        super()._open(height, width)
        self._output.metadata["comment"] = PREVIEW
        context = self._stream.codec_context
        # said in the file, since players otherwise guess the colours from the size
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1

    def _frame(self, image: np.ndarray) -> Any:
        frame = super()._frame(image)
        return frame.reformat(format=self._pixels, dst_colorspace="ITU709", interpolation="AREA")


class VideoWriter(PreviewWriter):
    """Write an H.264 video of exactly the frames' size, finer than a preview.

    Colours have half the resolution (yuv420p) but where a side is odd: that needs yuv444p, which browsers do not play.

    Args:
        path: the .mp4 file.
        fps: frames per second.
        note: text kept in the file as its description.
    """

    _codec_options = _H264 | {"crf": "16"}

    def __init__(self, path: str | Path, fps: float, note: str = "") -> None:
        super().__init__(path, fps)
        self._note = note

    def write(self, frames: np.ndarray) -> None:
        """Append frames: uint8 (T,H,W,3), every chunk of the same size."""
        _Writer.write(self, frames)

    def _open(self, height: int, width: int) -> None:
        if height % 2 or width % 2:
            self._pixels, self._codec_options = "yuv444p", self._codec_options | {"profile": "high444"}
        super()._open(height, width)
        self._output.metadata["description"] = self._note


class ShortGroupsWriter(VideoWriter):
    """Write H.264 of high quality in groups of 8 frames, to be read at random; odd sizes keep all colours."""

    _codec_options = _SHORT_GROUPS


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def write_lossless(path: str | Path, frames: np.ndarray, fps: float, meta: Mapping[str, Any] | None = None) -> None:
    """Store frames, uint8 (T,H,W,3), so that `read_lossless` gives exactly the same numbers back."""
    with LosslessWriter(path, fps, frames=len(frames), meta=meta) as writer:
        writer.write(frames)


def write_preview(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """Write frames, uint8 (T,H,W,3), as a small mp4 that every browser plays."""
    with PreviewWriter(path, fps) as writer:
        writer.write(frames)


def read_lossless(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a stored clip whole: uint8 (T,H,W,3) and its frames per second.

    Raises:
        UserError: if the file is missing, was not written by this module, or is damaged.
    """
    info = lossless_info(path)
    return np.concatenate(list(iter_lossless(path, chunk=info.frames))), info.fps


def lossless_info(path: str | Path) -> StoredClip:
    """Read what a stored clip says of itself, without decoding it.

    Raises:
        UserError: if the file is missing or was not written by this module.
    """
    with _open_stored(path) as container:
        return _info(path, container)


def iter_lossless(path: str | Path, chunk: int = 16) -> Iterator[np.ndarray]:
    """Read a stored clip in chunks of at most `chunk` frames: uint8 (t,H,W,3).

    Raises:
        UserError: if the file is missing, was not written by this module, or is damaged.
    """
    with _open_stored(path) as container:
        info = _info(path, container)
        count, pixels = 0, hashlib.sha256()
        for frames in _batches(_decode(path, container), max(1, chunk)):
            count += len(frames)
            pixels.update(frames.data)
            yield frames
        if (count, pixels.hexdigest()) != (info.frames, info.sha256):
            what = f"{count} of {info.frames} frames" if count != info.frames else "other pixels than were written"
            raise UserError(f"{path} is damaged: it holds {what}; remove it and write it again")


def _open_stored(path: str | Path) -> Any:
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as a stored clip: {reason}") from None


def _info(path: str | Path, container: Any) -> StoredClip:
    tags = {key.lower(): value for key, value in container.metadata.items()}
    try:
        note = json.loads(tags["comment"])
        size = container.streams.video[0].codec_context
        return StoredClip(
            frames=note["frames"],
            height=size.height,
            width=size.width,
            fps=note["fps"],
            sha256=note["content_sha256"],
            meta=note["meta"],
        )
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(f"{path} was not written by this package: give a folder of its .mkv files") from None


def _decode(path: str | Path, container: Any) -> Iterator[np.ndarray]:
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"
    try:
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")
    except av.error.FFmpegError as error:
        raise UserError(f"{path} is damaged ({error.strerror}); remove it and write it again") from None


def _batches(images: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
