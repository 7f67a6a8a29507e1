"""Read videos and images: the only module that knows the decoders.

decord reads what it can (fast, exact random access); PyAV reads the rest, sequentially. No reader is kept open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch  # noqa: F401  (loaded before decord, which otherwise crashes beside CUDA)
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from video_vae.data.table import Clip, Kind

Frames = NDArray[np.uint8]
"""Frames as a player would show them: uint8 (T,H,W,3), RGB."""

Reason = Literal["unreadable", "truncated", "too short", "too small", "duplicate", "missing"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv", ".y4m"}
)


class MediaError(Exception):
    """A file cannot be used: `reason` is one word of rejected.csv, `detail` says what was seen."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds; sizes in pixels as shown, `fps` None for an image."""

    kind: Kind
    num_frames: int
    height: int
    width: int
    fps: float | None


def read_clip(clip: Clip, indices: Sequence[int] | None = None) -> Frames:
    """Read frames of a clip, by their index from the start of the clip; all frames where none are named.

    Raises:
        MediaError: if the file is gone or a frame cannot be decoded.
    """
    if clip.kind == "image":
        image = read_image(clip.path)
        return image if indices is None else np.repeat(image, len(indices), axis=0)
    wanted = range(clip.num_frames) if indices is None else indices
    return read_frames(clip.path, [clip.start_frame + index for index in wanted])


def read_frames(path: str | Path, indices: Sequence[int]) -> Frames:
    """Decode the frames with these indices (any order, repeats allowed), and little else: uint8 (T,H,W,3).

    Raises:
        MediaError: if the file is missing, cannot be opened, or has no frame with one of the indices.
    """
    check_exists(path)
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if max(indices) >= len(reader):
            raise MediaError("truncated", f"frame {max(indices)} asked for, {len(reader)} frames present")
        frames: Frames = reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError):  # the latter when it cannot open the file
        return _read_frames_av(path, indices)
    return frames


def _read_frames_av(path: str | Path, indices: Sequence[int]) -> Frames:
    import av

    wanted = set(indices)
    found: dict[int, Frames] = {}
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    found[index] = frame.to_ndarray(format="rgb24")
                if len(found) == len(wanted):
                    break
    except (av.FFmpegError, IndexError, ValueError) as error:
        if not found:
            raise MediaError("unreadable", " ".join(str(error).split())) from None
    if len(found) < len(wanted):
        raise MediaError("truncated", f"frame {max(wanted - set(found))} does not decode")
    return np.stack([found[index] for index in indices])


def read_image(path: str | Path) -> Frames:
    """Decode an image as uint8 (1,H,W,3): orientation applied, transparency over white.

    Raises:
        MediaError: if the file is missing or is not a whole image.
    """
    check_exists(path)
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(image.convert("RGB"))[None].copy()
    except UnidentifiedImageError:
        raise MediaError("unreadable", "not an image") from None
    except Image.DecompressionBombError as error:
        raise MediaError("unreadable", str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        reason: Reason = "truncated" if "truncated" in str(error) else "unreadable"
        raise MediaError(reason, " ".join(str(error).split())) from None


def check_exists(path: str | Path) -> None:
    """Raise a MediaError that says why, unless `path` is a file with content."""
    file = Path(path)
    try:
        if file.stat().st_size == 0:
            raise MediaError("unreadable", "empty file (0 bytes)")
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
    if not file.is_file():
        raise MediaError("unreadable", "not a file")
