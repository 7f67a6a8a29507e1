"""Images look as a viewer shows them, moving ones are videos, and what has no known white is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from video_vae.config import Data
from video_vae.data.build_manifest import look_through
from video_vae.data.sources import collect
from video_vae.data.video import MediaError, probe, read_clip, read_frames, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
UPRIGHT = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.swapaxes(0, 1),
    6: PIXELS.swapaxes(0, 1)[:, ::-1],
    7: PIXELS.swapaxes(0, 1)[::-1, ::-1],
    8: PIXELS.swapaxes(0, 1)[::-1],
}
"""How EXIF wants an image laid."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg", "a.avif"])
def test_exif_turns_and_mirrors(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = np.repeat(np.repeat(PIXELS // 2 + 60, 4, 0), 4, 1)  # survives lossy coding
    Image.fromarray(coarse).save(tmp_path / name, exif=exif, quality=100)
    info = probe(tmp_path / name)
    shown = np.repeat(np.repeat(UPRIGHT[orientation] // 2 + 60, 4, 0), 4, 1)
    assert (info.height, info.width) == shown.shape[:2]
    assert np.abs(read_image(tmp_path / name)[0].astype(int) - shown).mean() < 12
    words = {"mirrored"} if orientation in (2, 4, 5, 7) else set()
    assert set(info.handling) == words | ({"turned"} if orientation in (3, 5, 6, 7, 8) else set())


def save_moving(path: Path, frames: int = 20, milliseconds: int = 40) -> list[np.ndarray]:
    """Save an animation without loss (but for AVIF); return its frames."""
    pictures = [np.roll(PIXELS, 3 * index, axis=1) for index in range(frames)]
    first, *others = (Image.fromarray(picture) for picture in pictures)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, lossless=True, quality=100)
    return pictures


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.apng", "a.avif"])
def test_animated_images_are_videos(tmp_path: Path, name: str) -> None:
    pictures = save_moving(tmp_path / name)
    info = probe(tmp_path / name)
    assert (info.kind, info.num_frames, info.height, info.width, info.fps) == ("video", 20, 48, 64, 25.0)
    shown = read_frames(tmp_path / name, [17, 0, 5])
    if name != "a.avif":
        assert np.array_equal(shown, np.stack([pictures[17], pictures[0], pictures[5]]))
    assert np.array_equal(shown, read_frames(tmp_path / name, range(20))[[17, 0, 5]])
    with pytest.raises(MediaError, match="20 frames present"):
        read_frames(tmp_path / name, [20])


def test_animated_images_become_clips(tmp_path: Path) -> None:
    pictures = save_moving(tmp_path / "moving.webp")
    Image.fromarray(PIXELS).save(tmp_path / "still.webp", lossless=True)
    Image.fromarray(PIXELS).save(tmp_path / "still.gif")
    clips, rejected = look_through(collect([str(tmp_path)]), Data(min_size=8, min_frames=17), workers=1)
    assert [(Path(clip.path).name, clip.kind, clip.num_frames) for clip in clips] == [
        ("moving.webp", "video", 20),
        ("still.gif", "image", 1),
        ("still.webp", "image", 1),
    ]
    assert rejected == []
    assert np.array_equal(read_clip(clips[0], [3])[0], pictures[3])
    assert read_clip(clips[1]).shape == (1, 48, 64, 3)


def test_the_still_picture_of_an_apng_is_none_of_its_frames(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (9, 50, 60))
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=50, default_image=True)
    assert probe(tmp_path / "a.png").num_frames == 2
    assert read_frames(tmp_path / "a.png", [0, 1])[:, 0, 0, 0].tolist() == [50, 60]


def test_of_several_pages_the_first_is_taken_and_said(tmp_path: Path) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    assert probe(tmp_path / "pages.tif").handling == ("first-page",)
    assert np.array_equal(read_image(tmp_path / "pages.tif")[0], PIXELS)


GREY = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (48, 64))


def test_float_pixels_from_0_to_1_are_black_to_white(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "a.tif")
    assert np.array_equal(read_image(tmp_path / "a.tif")[0, ..., 1], GREY)


@pytest.mark.parametrize("scale", [255.0, 1.5, np.nan])
def test_other_float_pixels_are_refused_with_the_cure(tmp_path: Path, scale: float) -> None:
    Image.fromarray(GREY.astype(np.float32) / 255 * np.float32(scale)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match=r"float pixels from .* bring them to 0 \(black\) to 1 \(white\)"):
        probe(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_keeps_its_range(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name)[0, ..., 1], GREY)


def write_tiff(path: Path, data: np.ndarray, **tags: int) -> None:
    """Write a TIFF of one strip by hand, with tags that Pillow does not write."""
    numbers = {"width": 256, "height": 257, "bits": 258, "white": 262, "place": 273, "channels": 277, "rows": 278}
    numbers |= {"bytes": 279, "planes": 284, "format": 339}
    content = data.tobytes()
    values = {"width": 64, "height": 48, "bits": 8 * data.itemsize, "white": 1, "place": 8, "channels": 1, "rows": 48}
    values |= {"bytes": len(content), **tags}
    body = b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(values))
    for name, value in sorted(values.items(), key=lambda item: numbers[item[0]]):
        body += struct.pack("<HHII", numbers[name], 4, 1, value)
    path.write_bytes(body + bytes(4))


def test_16_bit_grey_whose_zero_is_white(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", (255 - GREY).astype("<u2") * 257, white=0)
    assert np.array_equal(read_image(tmp_path / "a.tif")[0, ..., 1], GREY)


@pytest.mark.parametrize(("kind", "tags"), [("<u4", {}), ("<i2", {"format": 2}), ("i1", {"format": 2})])
def test_tiffs_of_which_white_is_not_known_are_refused(tmp_path: Path, kind: str, tags: dict[str, int]) -> None:
    write_tiff(tmp_path / "a.tif", (GREY // 2).astype(kind), **tags)
    with pytest.raises(MediaError, match="which is white; save it with 8 or 16 unsigned bits"):
        probe(tmp_path / "a.tif")


def test_colours_of_16_bits_in_planes_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[284] = 2
    image.save(tmp_path / "a.tif", tiffinfo=info)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    assert content.count(struct.pack("<3H", 8, 8, 8)) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 16, 16, 16)))
    with pytest.raises(MediaError, match="channels of 16 bits"):
        probe(tmp_path / "a.tif")


def test_hdr_images_are_tone_mapped(tmp_path: Path) -> None:
    """Grey of 203 cd/m² in PQ, told by a PNG's `cICP`, as in a video."""
    Image.new("RGB", (64, 48), (148, 148, 148)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    told = b"cICP" + bytes([9, 16, 0, 1])
    chunk = struct.pack(">I", 4) + told + struct.pack(">I", zlib.crc32(told))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    assert probe(tmp_path / "a.png").handling == ("tone-mapped",)
    assert np.abs(read_image(tmp_path / "a.png")[0].astype(int) - 230).max() <= 1


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif-convert"),
        (b"\xff\x0a" + bytes(40), "djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "djxl"),
    ],
    ids=["heic", "jxl stream", "jxl file"],
)
def test_images_without_a_reader_name_the_cure_whatever_their_name(tmp_path: Path, content: bytes, cure: str) -> None:
    for name in ("photo.jpg", "photo.heic" if cure == "heif-convert" else "photo.jxl"):
        (tmp_path / name).write_bytes(content)
    Image.fromarray(PIXELS).save(tmp_path / "good.png")
    clips, rejected = look_through(collect([str(tmp_path)]), Data(min_size=8), workers=1)
    assert [Path(clip.path).name for clip in clips] == ["good.png"]
    assert [(row.reason, cure in row.detail) for row in rejected] == [("unreadable", True)] * 2


def test_exif_that_cannot_be_read_costs_no_image(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.webp", lossless=True, exif=b"exif\nno such thing")
    assert probe(tmp_path / "a.webp").handling == ()
    assert np.array_equal(read_image(tmp_path / "a.webp")[0], PIXELS)


def test_an_avif_without_pictures_says_so(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    start = content.index(b"mdat") + 4
    (tmp_path / "a.avif").write_bytes(content[:start] + bytes(len(content) - start))
    with pytest.raises(MediaError, match="unreadable"):
        probe(tmp_path / "a.avif")
