"""From a decoded frame to the picture that a player shows: what is done to it, and the words for that in the tables."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import atan2, degrees
from typing import Any, Literal, get_args

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from video_vae.data.content import MediaError, check_size, message
from video_vae.data.tone import HLG, PQ, tone_map

Frames = NDArray[np.uint8]
"""Frames as a player would show them: uint8 (T,H,W,3), RGB."""

Handling = Literal["edited", "first-page", "mirrored", "resampled", "stretched", "tone-mapped", "turned"]
"""Word of the tables' column `handling`: what was done so that a file is read as a player shows it."""

HANDLINGS: tuple[Handling, ...] = get_args(Handling)

HD_HEIGHT, HD_WIDTH = 577, 1280
"""Untagged pictures at least this high or wide are taken as BT.709, as players do; smaller ones as BT.601."""

_BT709, _BT601, _BT2020 = 1, 5, 9
_READ = frozenset({_BT709, 4, _BT601, 6, 7, _BT2020})
_UNTAGGED = frozenset({0, 2, 3})
_UNREAD = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE 2085",
    12: "derived from the primaries",
    13: "derived from the primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2, as in Dolby Vision profile 5",
    16: "YCgCo-R",
    17: "YCgCo-R",
}
"""Colour matrices by their number in H.273."""
_BY_ZIMG = frozenset({8, 10, 12, 13, 14})
"""Those that FFmpeg's zscale filter converts."""


@dataclass(frozen=True)
class _Turn:
    """One of the eight ways to lay a picture: transposed first, then its columns, then its rows reversed."""

    transposed: bool = False
    columns: bool = False
    rows: bool = False

    @property
    def mirrored(self) -> bool:
        """Tell whether left and right change places, whatever turn comes with it."""
        return self.transposed ^ self.columns ^ self.rows

    @property
    def turned(self) -> bool:
        """Tell whether the picture is turned by a quarter or by half."""
        return self.transposed or (self.columns and self.rows)

    def apply(self, pixels: Frames) -> Frames:
        """Lay uint8 (H,W,3)."""
        pixels = pixels.swapaxes(0, 1) if self.transposed else pixels
        return np.ascontiguousarray(pixels[:: -1 if self.rows else 1, :: -1 if self.columns else 1])


_UPRIGHT = _Turn()


def to_rgb(frame: VideoFrame, stream: VideoStream, converter: VideoReformatter | None = None) -> Frames:
    """Show a frame: 8-bit BT.709 RGB of square pixels, upright, uint8 (H,W,3).

    Args:
        frame: as decoded.
        stream: where it comes from.
        converter: set up once for frames of one kind, by one thread; None sets one up for this frame.

    Raises:
        MediaError: if its colours or its display matrix are of a kind that is not read; says what to do.
    """
    turn = _turn(frame)
    try:
        pixels = _convert(frame, _shown_width(frame, stream), converter or VideoReformatter())
    except (av.FFmpegError, ValueError) as error:
        detail = f"{frame.format.name} pixels are not converted to RGB ({message(error)})"
        raise MediaError("unreadable", f"{detail}; make a copy: ffmpeg -i FILE -pix_fmt yuv420p new.mp4") from None
    return pixels if turn == _UPRIGHT else turn.apply(pixels)


def picture_handling(frame: VideoFrame, stream: VideoStream) -> tuple[Handling, ...]:
    """Say what `to_rgb` does to the frames of a stream, told by one of them."""
    turn = _turn(frame)
    done: dict[Handling, bool] = {
        "mirrored": turn.mirrored,
        "stretched": _shown_width(frame, stream) != frame.width,
        "tone-mapped": _is_hdr(frame),
        "turned": turn.turned,
    }
    return tuple(word for word, is_done in done.items() if is_done)


def _turn(frame: VideoFrame) -> _Turn:
    """Read the display matrix: where it puts (x right, y down) is (ax + cy, bx + dy)."""
    # `frame.side_data` would refer back to the frame, whose memory then waits for a garbage collection.
    sides: Any = SideDataContainer(frame)  # type: ignore[call-arg]
    data = sides.get(Type.DISPLAYMATRIX)
    if data is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    if max(abs(b), abs(c)) * 50 <= min(abs(a), abs(d)):  # within a degree, as FFmpeg has it
        return _Turn(columns=a < 0, rows=d < 0)
    if max(abs(a), abs(d)) * 50 <= min(abs(b), abs(c)):
        return _Turn(transposed=True, columns=c < 0, rows=b < 0)
    if not (a or b) or not (c or d):  # nothing would be seen: not meant
        return _UPRIGHT
    raise MediaError(
        "unreadable",
        f"its display matrix turns the picture by {degrees(atan2(b, a)):.0f} degrees, and only quarter turns are read; "
        "make an upright copy: ffmpeg -i FILE new.mp4",
    )


def _shown_width(frame: VideoFrame, stream: VideoStream) -> int:
    """Width that makes the pixels square, before the picture is turned; the height stays."""
    aspect = stream.sample_aspect_ratio
    if aspect is None or aspect <= 0 or aspect == 1:
        return frame.width
    width = max(1, int(frame.width * aspect + 0.5))
    check_size(width, frame.height)
    return width


def _is_hdr(frame: VideoFrame) -> bool:
    return frame.color_trc in (PQ, HLG)


def _convert(frame: VideoFrame, width: int, converter: VideoReformatter) -> Frames:
    matrix = _matrix(frame)
    if frame.interlaced_frame and frame.format.name.startswith("yuv4"):
        frame = _woven(frame)
    pixels = "rgb48le" if _is_hdr(frame) else "rgb24"
    # one thread: many files are decoded at once
    shown = converter.reformat(
        frame,
        width=width,
        format=pixels,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation="BILINEAR" if width == frame.width else "BICUBIC",
        threads=1,
    )
    if _is_hdr(frame):
        return tone_map(
            np.asarray(shown.to_ndarray(), np.uint16).transpose(2, 0, 1), frame.color_trc, frame.color_primaries
        )
    return _view(shown)


def _view(frame: VideoFrame) -> Frames:
    """Look at an RGB frame's own memory, which lives as long as this does: uint8 (H,W,3)."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    return rows[: frame.height, : frame.width * 3].reshape(frame.height, frame.width, 3)


def _matrix(frame: VideoFrame) -> int | None:
    """Number (H.273) of the matrix that a frame's colours are coded by; None where there is none."""
    if frame.format.is_rgb or len(frame.format.components) < 3:
        if frame.colorspace not in _READ:
            frame.colorspace = 2  # the converter refuses unknown ones, even of RGB
        return None
    if frame.colorspace in _READ:
        return frame.colorspace
    if frame.colorspace in _UNTAGGED:
        if _is_hdr(frame) or frame.color_primaries == _BT2020:
            return _BT2020
        return _BT709 if frame.height >= HD_HEIGHT or frame.width >= HD_WIDTH else _BT601
    name = _UNREAD.get(frame.colorspace, "an unknown matrix")
    raise MediaError(
        "unreadable",
        f"its colours are tagged as {name} (matrix {frame.colorspace} of H.273), which is not read; {_cure(frame)}",
    )


def _cure(frame: VideoFrame) -> str:
    if frame.colorspace in _BY_ZIMG:
        return (
            "make a BT.709 copy: ffmpeg -i FILE -vf zscale=m=709 new.mp4, or correct the tag where it is wrong: ffmpeg "
            "-i FILE -c copy -bsf:v h264_metadata=matrix_coefficients=1 new.mp4 (hevc_metadata for HEVC)"
        )
    return "export it again from where it was made, in BT.709"


def _woven(frame: VideoFrame) -> VideoFrame:
    """Copy an interlaced frame without its flag: players mix the colours of its fields, FFmpeg's converter does not."""
    copy = VideoFrame(frame.width, frame.height, frame.format.name)
    for old, new in zip(frame.planes, copy.planes, strict=True):
        rows = np.frombuffer(bytes(old), np.uint8).reshape(-1, old.line_size)
        target = np.zeros((new.buffer_size // new.line_size, new.line_size), np.uint8)
        width = min(old.line_size, new.line_size)
        target[:, :width] = rows[: len(target), :width]
        new.update(target.tobytes())
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    copy.color_trc, copy.color_primaries = frame.color_trc, frame.color_primaries
    return copy
