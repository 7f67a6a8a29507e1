"""Frames look as a player shows them: colours by their tags, square pixels, upright, in the standard range."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import decode_in_order, turn, write_video
from video_vae.data.video import Frames, MediaError, probe, read_frames

BT709, YCGCO, BT601, BT2020, BT2020_CONSTANT, ICTCP = 1, 8, 5, 9, 10, 14
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), BT2020: (0.2627, 0.0593)}

SIDEWAYS: dict[tuple[int, int, int, int], Callable[[Frames], Frames]] = {
    (1, 0, 0, 1): lambda frames: frames,
    (-1, 0, 0, 1): lambda frames: frames[:, :, ::-1],
    (1, 0, 0, -1): lambda frames: frames[:, ::-1],
    (-1, 0, 0, -1): lambda frames: frames[:, ::-1, ::-1],
    (0, 1, 1, 0): lambda frames: frames.swapaxes(1, 2),
    (0, 1, -1, 0): lambda frames: frames.swapaxes(1, 2)[:, :, ::-1],
    (0, -1, 1, 0): lambda frames: frames.swapaxes(1, 2)[:, ::-1],
    (0, -1, -1, 0): lambda frames: frames.swapaxes(1, 2)[:, ::-1, ::-1],
}
"""What FFmpeg shows for each display matrix (a, b, c, d)."""


def write_colour(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (64, 96), **tags: int) -> Path:
    """Write two frames of one Y'CbCr colour (10 bits where one is above 255), without loss, tagged as told."""
    deep = max(colour) > 255
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p10le" if deep else "yuv420p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for _ in range(2):
            frame = av.VideoFrame(size[1], size[0], stream.pix_fmt)
            for plane, value in zip(frame.planes, colour, strict=True):
                plane.update(np.full(plane.buffer_size // (1 + deep), value, "<u2" if deep else np.uint8).tobytes())
            for name, value in tags.items():
                setattr(frame, name, value)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def by_formula(colour: tuple[int, int, int], matrix: int, span: int) -> np.ndarray:
    """Compute 8-bit R'G'B' as the standards define it."""
    kr, kb = WEIGHTS[matrix]
    y, cb, cr = (np.array(colour) - (16, 128, 128)) / (219, 224, 224)
    if span == FULL:
        y, cb, cr = (np.array(colour) - (0, 128, 128)) / 255
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return (np.array([red, green, blue]) * 255).clip(0, 255)


@pytest.mark.parametrize("matrix", SIDEWAYS)
def test_the_display_matrix_turns_and_mirrors(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = turn(write_video(tmp_path / "phone.mp4", 3), matrix)
    shown = SIDEWAYS[matrix](decode_in_order(path))
    info = probe(path)
    assert (info.height, info.width) == shown.shape[1:3]
    assert np.array_equal(read_frames(path, [0, 1, 2]), shown)
    is_transposed, determinant = matrix[0] == 0, matrix[0] * matrix[3] - matrix[1] * matrix[2]
    words = {"mirrored"} if determinant < 0 else set()
    words |= {"turned"} if is_transposed or matrix == (-1, 0, 0, -1) else set()
    assert set(info.handling) == words


def test_other_turns_are_refused_with_the_cure(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tilted.mp4", 2)
    content = path.read_bytes()
    place = content.index(b"tkhd") + 44
    tilted = np.array([0.87, 0.5, 0, -0.5, 0.87, 0, 0, 0, 16384]) * 65536
    path.write_bytes(content[:place] + tilted.astype(">i4").tobytes() + content[place + 36 :])
    with pytest.raises(MediaError, match=r"30 degrees.*ffmpeg -i FILE"):
        probe(path)


@pytest.mark.parametrize(
    ("aspect", "size", "shown"),
    [((64, 45), (96, 128), (96, 182)), ((8, 9), (96, 144), (96, 128)), ((1000, 1001), (96, 128), (96, 128))],
)
def test_pixels_become_square(
    tmp_path: Path, aspect: tuple[int, int], size: tuple[int, int], shown: tuple[int, int]
) -> None:
    path = write_ramp(tmp_path / "anamorphic.mp4", size, Fraction(*aspect))
    info = probe(path)
    assert (info.height, info.width) == shown
    assert info.handling == (("stretched",) if shown != size else ())
    frame = read_frames(path, [1])[0]
    places = (np.arange(shown[1]) + 0.5) * size[1] / shown[1] - 0.5
    assert np.abs(frame[48, 2:-2, 0] - ramp(places, size[1])[2:-2]).max() < 3


def ramp(columns: np.ndarray, width: int) -> np.ndarray:
    return 20 + columns * 200 / width


def write_ramp(path: Path, size: tuple[int, int], aspect: Fraction) -> Path:
    row = ramp(np.arange(size[1]), size[1]).round().astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(2):
            picture = np.broadcast_to(row[None, :, None], (*size, 3))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        output.mux(stream.encode())
    return path


def test_stretched_and_turned_together(tmp_path: Path) -> None:
    path = turn(write_ramp(tmp_path / "a.mp4", (96, 128), Fraction(64, 45)), (0, 1, -1, 0))
    info = probe(path)
    assert (info.height, info.width, info.handling) == (182, 96, ("stretched", "turned"))
    column = read_frames(path, [0])[0, :, 10, 0].astype(int)
    assert (np.diff(column) >= 0).all()
    assert column[-1] - column[0] > 190


COLOUR = (120, 90, 170)


@pytest.mark.parametrize(
    ("size", "tags", "matrix"),
    [
        ((576, 1278), {}, BT601),
        ((720, 64), {}, BT709),
        ((64, 1280), {}, BT709),
        ((720, 64), {"colorspace": BT601}, BT601),
        ((64, 96), {"colorspace": BT709}, BT709),
        ((64, 96), {"colorspace": BT2020}, BT2020),
        ((64, 96), {"color_primaries": BT2020}, BT2020),
        ((64, 96), {"colorspace": BT601, "color_range": FULL}, BT601),
        ((720, 64), {"color_range": FULL}, BT709),
    ],
)
def test_colours_are_decoded_by_their_tags(
    tmp_path: Path, size: tuple[int, int], tags: dict[str, int], matrix: int
) -> None:
    path = write_colour(tmp_path / "a.mp4", COLOUR, size, **tags)
    expected = by_formula(COLOUR, matrix, tags.get("color_range", LIMITED))
    assert np.abs(read_frames(path, [1])[0, 30, 30] - expected).max() < 2.5
    assert probe(path).handling == ()


@pytest.mark.parametrize(
    ("transfer", "code", "light"),
    [
        (PQ, 0.0, 0.0),
        (PQ, 0.4400, 50.0),
        (HLG, 0.4929, 50.0),
        (PQ, 0.5807, 203.0),
        (HLG, 0.75, 203.0),
        (PQ, 0.7518, 1000.0),
        (HLG, 1.0, 1000.0),
        (PQ, 0.95, 1000.0),
    ],
)
def test_hdr_is_tone_mapped(tmp_path: Path, transfer: int, code: float, light: float) -> None:
    """Values by BT.2100; dark light as it is on a display of 203 cd/m², the curve of BT.2390 above."""
    shown = {203.0: 159.0, 1000.0: 203.0}.get(light, light)
    grey = (round(64 + 876 * code), 512, 512)
    path = write_colour(tmp_path / "a.mp4", grey, color_trc=transfer, colorspace=BT2020, color_primaries=BT2020)
    frame = read_frames(path, [1])[0]
    assert np.abs(frame - (shown / 203) ** (1 / 2.4) * 255).max() < 2
    assert probe(path).handling == ("tone-mapped",)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_keeps_its_colours(tmp_path: Path, transfer: int) -> None:
    """A BT.709 colour, coded by BT.2100, comes back."""
    linear = np.array([0.30, 0.10, 0.05])
    wide = np.linalg.inv([[1.66049, -0.58764, -0.07285], [-0.12455, 1.1329, -0.00835], [-0.01815, -0.10058, 1.11873]])
    light = wide @ linear * 203
    if transfer == PQ:
        share = (light / 10000) ** 0.1593017578125
        code = ((0.8359375 + 18.8515625 * share) / (1 + 18.6875 * share)) ** 78.84375
    else:
        display = light / 1000
        luminance = display @ (0.2627, 0.678, 0.0593)
        scene = display * luminance ** (1 / 1.2 - 1)
        code = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 0.1)) + 0.55991073,
        )
    luma = code @ (0.2627, 0.678, 0.0593)
    chroma = (code[2] - luma) / 1.8814, (code[0] - luma) / 1.4746
    colour = (round(64 + 876 * luma), *(round(512 + 896 * value) for value in chroma))
    path = write_colour(tmp_path / "a.mp4", colour, color_trc=transfer, colorspace=BT2020, color_primaries=BT2020)
    assert np.abs(read_frames(path, [0])[0, 9, 9] - linear ** (1 / 2.4) * 255).max() < 4


@pytest.mark.parametrize(("matrix", "name"), [(YCGCO, "YCgCo"), (BT2020_CONSTANT, "BT.2020"), (ICTCP, "ICtCp")])
def test_matrices_that_are_not_read_are_named_with_the_cure(tmp_path: Path, matrix: int, name: str) -> None:
    path = write_colour(tmp_path / "a.mp4", COLOUR, colorspace=matrix)
    with pytest.raises(MediaError, match=rf"{name}.*ffmpeg -i FILE") as caught:
        probe(path)
    assert caught.value.reason == "unreadable"


def test_interlaced_frames_are_shown_as_they_are_woven(tmp_path: Path) -> None:
    """Colours of 4:2:0 belong to neighbouring rows, as FFmpeg shows them, not to every second row."""
    path = tmp_path / "tv.mpg"
    rows = np.arange(96)[:, None, None]
    picture = np.where(rows // 2 % 2, (200, 40, 40), (40, 200, 40)).astype(np.uint8) * np.ones((1, 128, 1), np.uint8)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "qscale": "2"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.bit_rate = 8_000_000
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert np.abs(read_frames(path, [0])[0, 40:50, 60].astype(int) - picture[40:50, 60]).max() < 60
