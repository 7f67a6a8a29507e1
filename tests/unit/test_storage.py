"""Stored clips come back bit for bit, say so when they are damaged, and previews play."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from video_vae.data.storage import (
    LosslessWriter,
    PreviewWriter,
    iter_lossless,
    lossless_info,
    read_lossless,
    write_lossless,
    write_preview,
)
from video_vae.errors import UserError


def noise(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def smooth(frames: int, height: int, width: int) -> np.ndarray:
    t, y, x = np.ogrid[0:frames, 0:height, 0:width]
    channels = [128 + 100 * np.sin((x + 2 * t) / 9 + c) * np.cos(y / 7) for c in range(3)]
    return np.stack([np.broadcast_to(c, (frames, height, width)) for c in channels], -1).astype(np.uint8)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 2, 3), (5, 33, 47), (2, 8, 250), (13, 64, 66)])
def test_what_is_read_is_bit_for_bit_what_was_written(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    frames = noise(*shape)
    write_lossless(tmp_path / "clip.mkv", frames, 25.0)
    back, fps = read_lossless(tmp_path / "clip.mkv")
    assert back.dtype == np.uint8
    assert fps == 25.0
    np.testing.assert_array_equal(back, frames)


def test_every_colour_survives(tmp_path: Path) -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1)  # (52,52,52,3): one frame a green level
    write_lossless(tmp_path / "clip.mkv", colours, 10)
    np.testing.assert_array_equal(read_lossless(tmp_path / "clip.mkv")[0], colours)


def test_real_material_takes_far_less_room_than_raw_frames(tmp_path: Path) -> None:
    frames = smooth(17, 128, 128)
    write_lossless(tmp_path / "clip.mkv", frames, 25)
    assert (tmp_path / "clip.mkv").stat().st_size < 0.5 * frames.nbytes


@pytest.mark.parametrize("fps", [30000 / 1001, 23.976, 0.5, 7, 120.0])
def test_frame_rate_and_notes_are_kept(tmp_path: Path, fps: float) -> None:
    meta = {"clip_id": "größe_1", "nested": {"numbers": [1, 2.5]}}
    write_lossless(tmp_path / "clip.mkv", smooth(4, 10, 12), fps, meta)
    info = lossless_info(tmp_path / "clip.mkv")
    assert (info.frames, info.height, info.width, info.fps, info.meta) == (4, 10, 12, fps, meta)
    assert info.sha256 == hashlib.sha256(smooth(4, 10, 12).tobytes()).hexdigest()


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    frames = smooth(5, 30, 31)
    for name in ("a.mkv", "b.mkv"):
        write_lossless(tmp_path / name, frames, 25, {"b": 1, "a": 2})
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    for name in ("a.mp4", "b.mp4"):
        write_preview(tmp_path / name, frames, 25)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_previews_do_not_depend_on_what_memory_held_before(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    program += "from pathlib import Path\nfrom material import write_clips\nwrite_clips(Path(sys.argv[1]), frames=12)"
    for filling in ("1", "37", "171", "255"):  # glibc fills what it hands out with the complement of this byte
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / filling)], env=environment, check=True)
    for name in (f"clip {number}.mp4" for number in range(5)):
        assert len({(tmp_path / filling / name).read_bytes() for filling in ("1", "37", "171", "255")}) == 1, name


def test_writing_and_reading_in_chunks_equals_whole(tmp_path: Path) -> None:
    frames = noise(23, 18, 22)
    with LosslessWriter(tmp_path / "chunks.mkv", 25, frames=23) as writer:
        for start in range(0, 23, 7):
            writer.write(frames[start : start + 7])
    write_lossless(tmp_path / "whole.mkv", frames, 25)
    assert (tmp_path / "chunks.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    chunks = list(iter_lossless(tmp_path / "chunks.mkv", chunk=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), frames)


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the caller's own"), LosslessWriter(tmp_path / "x.mkv", 25, frames=9) as w:
        w.write(noise(2, 8, 8))
        raise RuntimeError("the caller's own")
    with (
        pytest.raises(ValueError, match="2 frames written, 9 promised"),
        LosslessWriter(tmp_path / "x.mkv", 25, frames=9) as w,
    ):
        w.write(noise(2, 8, 8))
    with pytest.raises(ValueError, match="follows"), PreviewWriter(tmp_path / "x.mp4", 25) as p:
        p.write(noise(2, 8, 8))
        p.write(noise(2, 8, 10))
    with pytest.raises(ValueError, match="without frames"):
        write_preview(tmp_path / "x.mp4", noise(0, 8, 8), 25)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_leaves_the_old_file(tmp_path: Path) -> None:
    frames = noise(3, 8, 8)
    write_lossless(tmp_path / "x.mkv", frames, 25)
    with pytest.raises(ValueError, match="promised"), LosslessWriter(tmp_path / "x.mkv", 25, frames=9) as w:
        w.write(noise(2, 8, 8, seed=1))
    np.testing.assert_array_equal(read_lossless(tmp_path / "x.mkv")[0], frames)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_lossless(path, noise(20, 32, 32), 25)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    for bad in (bytes(flipped), good[: len(good) * 2 // 3], good[:100], b""):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"clip\.mkv"):
            read_lossless(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    write_preview(tmp_path / "preview.mp4", smooth(3, 16, 16), 25)
    (tmp_path / "text.mkv").write_text("no video")
    for name in ("preview.mp4", "text.mkv", "missing.mkv"):
        with pytest.raises(UserError, match=name):
            read_lossless(tmp_path / name)


def test_previews_are_small_and_of_the_kind_that_browsers_play(tmp_path: Path) -> None:
    frames = smooth(12, 45, 63)
    write_preview(tmp_path / "clip.mp4", frames, 12.5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 64, 46)
        assert stream.average_rate == 12.5
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert np.abs(back[:, :45, :63].astype(int) - frames).mean() < 6
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads
    assert len(data) < frames.nbytes / 10


def test_impossible_frame_rates_are_refused(tmp_path: Path) -> None:
    for fps in (0.0, -1.0, float("nan"), 1e6):
        with pytest.raises(UserError, match="frames per second"):
            write_lossless(tmp_path / "x.mkv", noise(1, 8, 8), fps)
