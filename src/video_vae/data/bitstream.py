"""Look into compressed packets for what containers do not say: where decoding may start, and what it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from av.video.stream import VideoStream

_START_CODE = re.compile(rb"\x00\x00\x01")
_X264_BUILD = re.compile(rb"x264 - core (\d+)")
_X264_FIXED = 151
"""First build of x264 that codes 4:4:4 as the standard has it; decoders go by the build that the first packet names."""
_H264_SLICE, _H264_IDR, _H264_SEI, _H264_SETS = 1, 5, 6, (7, 8)
_RECOVERY_POINT = 6
_HEVC_STARTS, _HEVC_PICTURES, _HEVC_SETS = range(16, 24), range(32), (32, 33, 34)
_MPEG4_PICTURE, _MPEG4_HEADERS = 0xB6, (*range(0x30), 0xB0, 0xB2)
_PICTURES = {"h264": range(1, 6), "hevc": _HEVC_PICTURES, "mpeg4": (_MPEG4_PICTURE,)}


READ_CODECS = frozenset({"h264", "hevc", "mpeg4"})
"""Codecs whose key frames are looked into; those of others are what containers say."""


def starts_decoding(stream: VideoStream, data: bytes) -> bool:
    """Tell whether decoding may start at a packet that its container marks as a key frame.

    Some containers mark any picture without references; H.264 and HEVC say themselves where decoding may start.
    """
    codec = stream.codec_context.name
    if codec not in ("h264", "hevc"):
        return True
    for unit in _units(stream, data):
        kind = _kind(codec, unit)
        if codec == "hevc" and kind in _HEVC_PICTURES:
            return kind in _HEVC_STARTS
        if codec == "h264" and (_recovers(unit) or kind == _H264_IDR):
            return True
        if codec == "h264" and kind == _H264_SLICE:
            return False
    return False


def is_hidden(stream: VideoStream, data: memoryview) -> bool:
    """Tell whether a packet holds nothing but a picture that others refer to and nobody sees (VP8, VP9)."""
    codec, first = stream.codec_context.name, data[0]
    if codec == "vp8":
        return not first >> 4 & 1
    if codec != "vp9" or data[-1] >> 5 == 0b110:  # several pictures in one packet, the last of them seen
        return False
    bits = f"{first:08b}"[5 if first >> 4 & 3 == 3 else 4 :]
    return bits[0] == "0" and bits[2] == "0"


def needed_headers(stream: VideoStream, first: bytes) -> frozenset[bytes]:
    """Return what the first packet tells decoders and the container does not: later key frames should repeat it.

    That is parameters and names of encoders, by which decoders choose their rules.
    """
    elsewhere = stream.codec_context.extradata or b""
    old = _X264_BUILD.search(first) if stream.codec_context.name == "h264" else None
    if old and int(old[1]) < _X264_FIXED and re.match("yuvj?444|gbr", stream.codec_context.pix_fmt or ""):
        return frozenset({old[0]})
    return frozenset(unit for unit in headers(stream, first) if unit not in elsewhere)


def headers(stream: VideoStream, data: bytes) -> frozenset[bytes]:
    """Return the units ahead of a picture that shape how it is decoded."""
    return frozenset(_headers(stream, data))


def _headers(stream: VideoStream, data: bytes) -> Iterator[bytes]:
    codec = stream.codec_context.name
    shaping = {"h264": _H264_SETS, "hevc": _HEVC_SETS, "mpeg4": _MPEG4_HEADERS}.get(codec)
    if shaping is None:
        return
    for unit in _units(stream, data):
        kind = _kind(codec, unit)
        if kind in shaping:
            yield unit
        elif kind in _PICTURES[codec]:
            return


def _kind(codec: str, unit: bytes) -> int:
    return {"h264": unit[0] & 31, "hevc": unit[0] >> 1 & 63}.get(codec, unit[0])


def _units(stream: VideoStream, data: bytes) -> Iterator[bytes]:
    """Split a packet into its units, whether start codes or lengths separate them."""
    extradata = stream.codec_context.extradata or b""
    codec = stream.codec_context.name
    at = {"h264": 4, "hevc": 21}.get(codec, len(extradata))
    if extradata[:1] != b"\x01" or at >= len(extradata):
        places = [match.end() for match in _START_CODE.finditer(data)]
        for place, end in zip(places, [*(place - 3 for place in places[1:]), len(data)], strict=True):
            unit = data[place:end].rstrip(b"\x00")
            if unit:
                yield unit
        return
    size, place = (extradata[at] & 3) + 1, 0
    while place + size < len(data):
        length = int.from_bytes(data[place : place + size], "big")
        if length:
            yield data[place + size : place + size + length]
        place += size + length


def _recovers(unit: bytes) -> bool:
    """Tell whether H.264's additional information marks a picture from which on all others are whole."""
    if unit[0] & 31 != _H264_SEI:
        return False
    payload, place = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00"), 0
    while place + 2 < len(payload):
        kind, place = _sum(payload, place)
        size, place = _sum(payload, place)
        if kind == _RECOVERY_POINT and place < len(payload):
            return bool(payload[place] >> 7)  # the number of pictures until then, 0, is coded as a single 1
        place += size
    return False


def _sum(payload: bytes, place: int) -> tuple[int, int]:
    """Read a number that is written as bytes to be added, the last of them below 255; return it and what follows."""
    total = 0
    while place < len(payload) and payload[place] == 255:
        total, place = total + 255, place + 1
    return total + (payload[place] if place < len(payload) else 0), place + 1
