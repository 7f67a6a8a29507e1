"""Read images and animated images (Pillow)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from video_vae.data.container import opened
from video_vae.data.content import MediaError, check_exists, check_size, message
from video_vae.data.pixels import Frames, Handling, to_rgb
from video_vae.data.tone import HLG, PQ
from video_vae.tar_members import open_bytes

ANIMATED_SUFFIXES = frozenset({".apng", ".avif", ".png", ".webp"})
"""Images that may hold a moving picture, which is then read as a video. GIFs are read as videos too, by FFmpeg."""

UNREAD_SUFFIXES = {
    ".heic": "HEIC photographs are not read; convert it: heif-convert FILE new.png",
    ".jxl": "JPEG XL images are not read; convert it: djxl FILE new.png",
}
UNREAD_SUFFIXES |= dict.fromkeys((".heics", ".heif", ".hif"), UNREAD_SUFFIXES[".heic"])
"""Images that no reader is here for, and the cure."""

_HEIC_BRANDS = frozenset({b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"})
_HEAD = 1 << 16
"""Bytes in which an image says how its colours are coded."""

_WORDS: dict[int, tuple[Handling, ...]] = {
    2: ("mirrored",),
    3: ("turned",),
    4: ("mirrored",),
    5: ("mirrored", "turned"),
    6: ("turned",),
    7: ("mirrored", "turned"),
    8: ("turned",),
}
"""What is done to an image, by its orientation in EXIF."""

_SHORTEST, _USUAL = 10.0, 100.0
"""Frames that are shown no longer than this (ms) are shown this long, as browsers do."""

_SLACK = 1 / 255
"""By how much float pixels may leave 0 to 1."""

_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PACKING, _TIFF_WHITE, _TIFF_PLANES, _TIFF_NUMBERS = 258, 259, 262, 284, 339
_UNSIGNED, _SIGNED = 1, 2


def is_still_gif(path: str | Path) -> bool:
    """Tell whether a file is a GIF of one frame: an image, where others are videos."""
    if Path(path).suffix.lower() != ".gif":
        return False
    try:
        with open_bytes(path) as stream, Image.open(stream) as image:
            return getattr(image, "n_frames", 1) == 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """What an image holds; `durations` are the seconds that each frame of an animation is shown."""

    num_frames: int
    height: int
    width: int
    durations: tuple[float, ...]
    handling: tuple[Handling, ...]


def probe_image(path: str | Path) -> ImageInfo:
    """Find out what an image holds; all frames of an animation are decoded.

    Raises:
        MediaError: if the file is missing, is not a whole image, or of a kind that is not read.
    """
    _, height, width, _ = read_image(path).shape
    with _opened(path) as image:
        words = set(_WORDS.get(_orientation(image), ()))
        words |= {"tone-mapped"} if _is_hdr(path) else set()
        words |= {"first-page"} if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1 else set()
        indices = _moving(image)
        if len(indices) > 1 and "tone-mapped" in words:
            raise MediaError("unreadable", "an animated image of high dynamic range; make a 10-bit video of it")
        durations = []
        for index in indices if len(indices) > 1 else ():
            if _picture(image, index).shape[:2] != (height, width):
                raise MediaError("unreadable", f"frame {indices.index(index)} has another size than frame 0")
            shown = float(image.info.get("duration") or 0.0)
            durations.append((shown if shown > _SHORTEST else _USUAL) / 1000)
    said: dict[str, Any] = {"height": height, "width": width, "durations": tuple(durations)}
    return ImageInfo(num_frames=max(1, len(indices)), handling=tuple(sorted(words)), **said)


def read_image(path: str | Path) -> Frames:
    """Decode an image, or the first frame of one, as uint8 (1,H,W,3): upright, transparency over white.

    Raises:
        MediaError: if the file is missing, is not a whole image, or of a kind that is not read.
    """
    check_exists(path)
    if _is_hdr(path):
        with opened(path) as (container, stream):
            for frame in container.decode(stream):
                return to_rgb(frame, stream)[None]
        raise MediaError("unreadable", "no image in it")
    with _opened(path) as image:
        return _picture(image, (_moving(image) or (0,))[0])[None]


def iterate_animation(path: str | Path, indices: Sequence[int]) -> Iterator[Frames]:
    """Decode frames of an animated image one by one: uint8 (H,W,3) for each of the strictly increasing `indices`.

    Raises:
        MediaError: if the file is missing or not a whole image, or there are not as many frames.
    """
    check_exists(path)
    with _opened(path) as image:
        places = _moving(image)
        for index in indices:
            if index >= len(places):
                raise MediaError("truncated", f"frame {index} asked for, {len(places)} frames present")
            yield _picture(image, places[index])


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with open_bytes(path) as stream, Image.open(stream) as image:
            check_size(*image.size)
            yield image
    except UnidentifiedImageError:
        raise MediaError("unreadable", _unidentified(path)) from None
    except Image.DecompressionBombError as error:
        raise MediaError("unreadable", str(error)) from None
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        raise MediaError("truncated" if "truncated" in str(error) else "unreadable", message(error)) from None


def _unidentified(path: str | Path) -> str:
    with open_bytes(path) as stream:
        head = stream.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS:
        return UNREAD_SUFFIXES[".heic"]
    if head[:2] == b"\xff\x0a" or head[4:8] == b"JXL ":
        return UNREAD_SUFFIXES[".jxl"]
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a TIFF of a kind that is not read; save it with 8 bits per channel"
    return "not an image"


def _moving(image: Image.Image) -> range:
    """Give the places of an animation's frames; an image of another kind has none."""
    if image.format not in ("AVIF", "PNG", "WEBP"):
        return range(0)
    # the still picture of an APNG, for those who see no moving ones, is none of its frames
    return range(int(bool(image.info.get("default_image"))), getattr(image, "n_frames", 1))


def _picture(image: Image.Image, index: int) -> Frames:
    """Decode one frame as uint8 (H,W,3)."""
    _refuse_unknown_white(image)
    if index or getattr(image, "is_animated", False):
        image.seek(index)
    image.load()  # before EXIF is asked for, which may decode and fail on its own
    turned = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    upright = _eight_bits(turned, inverted=_tag(image, _TIFF_WHITE, 1) == 0)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB")).copy()


def _orientation(image: Image.Image) -> int:
    """Read an image's orientation; EXIF that cannot be read is skipped, as viewers do."""
    with suppress(OSError, ValueError, SyntaxError, struct.error):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _tag(image: Image.Image, number: int, default: int) -> int:
    """Read a number of a TIFF (the first, where there is one per channel)."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _refuse_unknown_white(image: Image.Image) -> None:
    """Refuse the TIFFs whose brightest value is nobody's convention, or that Pillow takes for others."""
    bits, numbers = _tag(image, _TIFF_BITS, 8), _tag(image, _TIFF_NUMBERS, _UNSIGNED)
    what = ""
    if numbers == _SIGNED or (bits > 16 and numbers == _UNSIGNED):
        what = f"{'signed ' * (numbers == _SIGNED)}{bits}-bit integers, of which it is not known which is white"
    elif bits > 8 and _tag(image, _TIFF_PLANES, 1) == 2 and _tag(image, _TIFF_PACKING, 1) == 1:
        what = f"channels of {bits} bits one after the other"
    if what:
        raise MediaError("unreadable", f"a TIFF of {what}; save it with 8 or 16 unsigned bits per channel")


def _eight_bits(image: Image.Image, *, inverted: bool) -> Image.Image:
    """Bring 16-bit and float grey to 8 bits; Pillow itself does so for colours, but for `inverted` white."""
    if image.mode.startswith("I"):
        codes = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray((((65535 - codes if inverted else codes) + 128) // 257).astype(np.uint8))
    if image.mode != "F":
        return image
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise MediaError(
            "unreadable", f"float pixels from {low:.3g} to {high:.3g}; bring them to 0 (black) to 1 (white)"
        )
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))


def _is_hdr(path: str | Path) -> bool:
    """Tell whether an AVIF or PNG says that its colours are PQ or HLG."""
    with open_bytes(path) as stream:
        head = stream.read(_HEAD)
    transfer = 0
    if head[4:8] == b"ftyp" and b"colrnclx" in head:
        place = head.index(b"colrnclx") + 8
        _, transfer = struct.unpack(">HH", head[place : place + 4].ljust(4, b"\0"))
    elif head[:4] == b"\x89PNG" and b"cICP" in head:
        place = head.index(b"cICP") + 4
        _, transfer = struct.unpack("2B", head[place : place + 2].ljust(2, b"\0"))
    return transfer in (PQ, HLG)
