"""One video goes through a model by one command: all frames, its own size, and what came of it in one line."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from clips import write_video
from material import make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.storage import VideoWriter, read_lossless, write_lossless
from video_vae.data.transform import to_tensor, to_uint8
from video_vae.data.video import probe, read_frames
from video_vae.distributed.stopping import Stopped
from video_vae.reconstruction import one_video
from video_vae.reconstruction.one_video import halved, probe_video, reconstruct_video
from video_vae.reconstruction.variants import ModelVariants

NTSC = 30000 / 1001


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a video of 42x37 pixels, 45 frames."""
    make_video_vae(tmp_path)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (45, 7, 7, 3), dtype=np.uint8).repeat(6, axis=1).repeat(6, axis=2)[:, :37, :]
    write_lossless(tmp_path / "in.mkv", frames, NTSC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return main(["reconstruct", *arguments, "--device", "cpu"])


@pytest.mark.parametrize(("scope", "chunk"), [("clip", 17), ("frame", None), ("clip", None)])
def test_all_frames_come_back_at_the_videos_own_size(
    folder: Path, capsys: pytest.CaptureFixture[str], scope: str, chunk: int | None
) -> None:
    model = make_video_vae(folder, chunk_frames=chunk, norm_scope=scope)
    assert run("in.mkv", "--model", "model", "--output", "out/rec.mkv") == 0
    said = re.fullmatch(r"out/rec\.mkv: 45 frames, 42x37, PSNR (\d+\.\d\d) dB, \d+\.\d s\n", capsys.readouterr().out)
    source, (made, fps) = read_lossless("in.mkv")[0], read_lossless("out/rec.mkv")
    assert made.shape == source.shape == (45, 37, 42, 3) and fps == pytest.approx(NTSC)
    padded = np.pad(source, ((0, 0), (0, 3), (0, 6), (0, 0)), mode="edge")
    with torch.no_grad():
        expected = to_uint8(model.reconstruct(to_tensor(padded)[None])[0])[:, :37, :42]
    assert np.abs(made.astype(int) - expected).max() <= 1  # summation order
    errors = np.square(made.astype(float) - source).mean(axis=(1, 2, 3))
    assert said is not None and float(said[1]) == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(37, 42), (40, 48)])
def test_the_result_plays_and_is_named_after_the_video(folder: Path, height: int, width: int) -> None:
    write_lossless("clip.of.mine.mkv", np.resize(read_lossless("in.mkv")[0], (9, height, width, 3)), 25)
    for _ in range(2):  # again over the first result
        assert run("clip.of.mine.mkv", "--model", "model") == 0
    info = probe("clip.of.mine_rec.mp4")
    assert (info.num_frames, info.height, info.width, info.fps) == (9, height, width, 25)


def test_a_written_video_shows_what_was_written(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:41, 0:63]
    frames = np.stack([np.stack((rows * 4 + t, columns * 3, rows + columns), -1) for t in range(5)]).astype(np.uint8)
    for height, width in ((41, 63), (40, 62)):
        with VideoWriter(tmp_path / "out.mp4", 25) as writer:
            writer.write(frames[:, :height, :width])
        found = read_frames(tmp_path / "out.mp4", range(5)).astype(int)
        assert found.shape == (5, height, width, 3) and np.abs(found - frames[:, :height, :width]).mean() < 3


def test_no_more_than_some_chunks_are_held(folder: Path) -> None:
    write_lossless("long.mkv", np.resize(read_lossless("in.mkv")[0], (170, 16, 16, 3)), 25)
    model = make_video_vae(folder)
    seen: list[int] = []
    done: list[int] = []
    model.temporal.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    variants = ModelVariants(model=model, device=torch.device("cpu"), names=("ori", "rec"))
    made = reconstruct_video(
        Path("long.mkv"), probe_video(Path("long.mkv")), folder / "long.mp4", variants, done.append
    )
    assert made.frames == sum(done) / 2 == 170 and max(seen) == 20  # 17, and what fills the group of four
    assert len(seen) == 10 and max(done) <= 32  # a piece of the file


def test_an_interrupted_video_is_not_said_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command starts over, where other commands of several clips go on."""

    def interrupted(*_: object) -> None:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(one_video, "reconstruct_video", interrupted)
    assert run("in.mkv", "--model", "model") == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("video-vae reconstruct: interrupted")
    assert not (folder / "in_rec.mp4").exists()


def test_progress_counts_what_was_read_by_half() -> None:
    """A net that takes a whole clip at once has read all of it before it writes a frame."""
    counted: list[int] = []
    tell = halved(counted.append)
    for frames in (9, 8, 17):
        tell(frames)
    assert counted == [4, 4, 9]


def test_what_cannot_be_done_is_said_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(folder / "cut.mp4", 30)
    (folder / "cut.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:3000])
    shutil.copy(folder / "in.mkv", folder / "same.mkv")
    wrong = {
        ("gone.mp4", "--model", "model"): "gone.mp4 is missing",
        ("cut.mp4", "--model", "model"): "cut.mp4 is truncated",
        ("in.mkv", "--model", "nowhere"): "nowhere",
        ("in.mkv", "--model", "model", "--output", "out.avi"): "ends in .mp4 (H.264) or .mkv",
        ("in.mkv", "--model", "model", "--output", "model"): "is a folder; name a file",
        ("same.mkv", "--model", "model", "--output", "same.mkv"): "is the video itself",
        ("in.mkv", "--model", "model", "--data-path", "in.mkv"): "--data-path does not go with --model",
        ("in.mkv",): "--model is missing: reconstruct VIDEO --model DIR",
        ("in.mkv", "--output", "out.mp4"): "--model is missing",
        ("{}", "--ckpt-path", "model", "--save-dir", "x"): "--data-path missing",
        ("{}", "--ckpt-path", "model"): "--data-path and --save-dir missing",
        ("{}", "--data-path", "in.mkv", "--save-dir", "x", "--output", "y.mp4"): "--output goes with --model only",
    }
    for arguments, said in wrong.items():
        assert run(*arguments) == 2, arguments
        text = capsys.readouterr().err
        assert said in text and text.count("\n") == 1, text
    assert np.array_equal(read_lossless("same.mkv")[0], read_lossless("in.mkv")[0])
    assert not [path.name for path in folder.iterdir() if "_rec" in path.name or path.name.startswith(("out", "x"))]


def test_clips_to_measure_may_be_a_folder_a_list_or_a_file(folder: Path) -> None:
    make_clip(folder, "first", 6)
    (folder / "clips").mkdir()
    shutil.move("first.mkv", "clips/first.mkv")
    shutil.copy("clips/first.mkv", "no_ending")
    (folder / "list.txt").write_text("clips/first.mkv\n", encoding="utf-8")
    (folder / "list.csv").write_text("path\nclips/first.mkv\n", encoding="utf-8")
    config = '{"data": {"resolution": [40, 48]}}'
    for number, clips in enumerate(("clips", "clips/first.mkv", "no_ending", "list.txt", "list.csv")):
        given = ["--ckpt-path", "model", "--data-path", clips, "--save-dir", f"out{number}", "--no-previews"]
        assert run(config, *given) == 0, clips
        (stored,) = (folder / f"out{number}_rec").glob("*.mkv")
        assert read_lossless(stored)[0].shape == (6, 40, 48, 3)
