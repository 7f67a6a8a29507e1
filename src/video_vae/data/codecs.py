"""Code a clip by a video codec of PyAV in memory, and count what a decoder needs of it.

The same frames give the same bytes: one thread, no date, nothing that depends on chance (`_OPTIONS`). Imports no numpy
before it codes, since a dry run asks for `lack`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from video_vae.config import Codec
from video_vae.config.rivals import CODEC_MIN_SIDE
from video_vae.errors import UserError

if TYPE_CHECKING:
    import numpy as np

PRESET = "slow"
FINEST, COARSEST = 1.0, 51.0
"""Quality numbers (crf) between which clips are coded: below 1 x264 codes without loss, 51 is the end of both."""
_ENCODERS: dict[Codec, str] = {"x264": "libx264", "x265": "libx265"}
_DECODERS: dict[Codec, str] = {"x264": "h264", "x265": "hevc"}
_OPTIONS: dict[Codec, dict[str, str]] = {
    "x264": {"x264-params": "mbtree=0", "flags": "+bitexact"},
    "x265": {"x265-params": "pools=none:frame-threads=1:info=0:log-level=none"},
}
"""The macroblock tree of x264 reads memory that it never wrote where frames are small; x265 may start threads."""
_SEI = {"x264": {6}, "x265": {39, 40}}
"""Kinds of unit that no decoder needs: remarks such as the encoder's name and settings."""
_RATE = Fraction(25)
_MARK = b"\x00\x00\x01"


def lack(codec: Codec) -> str:
    """Say why this PyAV cannot code by a codec; empty where it can, and where there is no PyAV to ask."""
    try:
        import av
    except ImportError:
        return ""
    try:
        av.codec.Codec(_ENCODERS[codec], "w")
        av.codec.Codec(_DECODERS[codec], "r")
    except av.codec.codec.UnknownCodecError as error:
        return f"PyAV {av.__version__} has no codec {error}; take a PyAV built with it, as the wheels of PyPI are"
    return ""


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A clip as a codec wrote it."""

    codec: Codec
    packets: tuple[bytes, ...]
    """What the decoder takes, one frame each, without the remarks."""
    bits: int
    """Bits of the units that a decoder needs: parameter sets and slices, without start codes and remarks."""


def planes(frames: np.ndarray) -> list[Any]:
    """Turn frames, uint8 (T,H,W,3), into what the codecs take: yuv420p in BT.709; odd sides repeat their last pixel."""
    import av
    import numpy as np

    odd = (frames.shape[1] % 2, frames.shape[2] % 2)
    padded = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    made = []
    for number, image in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", interpolation="AREA")
        frame.pts = number
        made.append(frame)
    return made


def encode(codec: Codec, pictures: Sequence[Any], crf: float) -> Coded:
    """Code the pictures of `planes` at a quality; a lower `crf`, 1 to 51, takes more bits.

    Raises:
        UserError: if they are too small for the codec.
    """
    import av

    height, width = pictures[0].height, pictures[0].width
    if min(height, width) < (side := CODEC_MIN_SIDE[codec]):
        raise UserError(f"{codec} cannot code frames of {height}x{width} pixels; give {side}x{side} or more")
    context: Any = av.CodecContext.create(_ENCODERS[codec], "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate, context.thread_count = 1 / _RATE, _RATE, 1
    context.options = {"preset": PRESET, "crf": f"{crf:g}", **_OPTIONS[codec]}
    written = [bytes(packet) for picture in [*pictures, None] for packet in context.encode(picture)]
    kept = [[unit for unit in _units(packet) if _kind(codec, unit) not in _SEI[codec]] for packet in written]
    bits = 8 * sum(len(unit) for units in kept for unit in units)
    return Coded(
        codec=codec, bits=bits, packets=tuple(b"".join(b"\x00" + _MARK + unit for unit in units) for units in kept)
    )


def decode(coded: Coded, height: int, width: int) -> np.ndarray:
    """Decode a clip: uint8 (T,H,W,3) of this height and width."""
    import av
    import numpy as np

    context: Any = av.CodecContext.create(_DECODERS[coded.codec], "r")
    context.thread_count = 1
    packets = [*map(av.Packet, coded.packets), None]
    pictures = [picture for packet in packets for picture in context.decode(packet)]
    made = [picture.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for picture in pictures]
    return np.stack(made)[:, :height, :width]


def _units(stream: bytes) -> Iterator[bytes]:
    """Cut a byte stream (Annex B of both standards) into its units, without start codes."""
    for unit in stream.split(_MARK)[1:]:
        yield unit.rstrip(b"\x00")  # a unit never ends in zero: these belong to the next start code


def _kind(codec: Codec, unit: bytes) -> int:
    return unit[0] & 31 if codec == "x264" else unit[0] >> 1 & 63
