"""Reconstructions are exact, paired, resumable clip by clip, and a bad clip costs only itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from material import TEMPORAL, make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.sampling import Sampling
from video_vae.data.storage import lossless_info, read_lossless, write_lossless
from video_vae.data.table import Clip, write_table
from video_vae.data.transform import resize_crop, to_tensor, to_uint8
from video_vae.data.video import read_clip
from video_vae.models import VideoAutoencoderKL
from video_vae.reconstruction.variants import regroup

CONFIG = {
    "data": {"resolution": [40, 48]},
    "model": {"temporal": TEMPORAL, "scaling_factor": 0.5},
    "spatial": {"pretrained": None, "training": {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}},
    "reconstruction": {"max_frames": 33},
}


class Folder:
    """A table of clips, a model, and the command on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = make_video_vae(path)
        self.clips = [
            make_clip(path, "long", 50),
            make_clip(path, "short", 6),
            make_clip(path, "piece", 40, start_frame=9, num_frames=21, fps=30000 / 1001),
        ]
        write_table(path / "test.csv", self.clips)

    def run(
        self,
        name: str = "out/clips",
        *options: str,
        config: dict | None = None,
        model: str = "model",
        previews: bool = False,
    ) -> int:
        options = options if previews else (*options, "--no-previews")
        command = ["reconstruct", json.dumps(CONFIG | (config or {})), f"--data-path={self.path / 'test.csv'}"]
        if "--baselines" in options:
            command += [f"--spatial={self.path / 'spatial'}"]
        else:
            command += [f"--ckpt-path={self.path / model}"]
        return main([*command, f"--save-dir={self.path / name}", "--device=cpu", *options])

    def stored(self, variant: str, clip: str, name: str = "out/clips") -> np.ndarray:
        return read_lossless(self.path / f"{name}_{variant}" / f"{clip}.mkv")[0]

    def rows(self, file: str = "out/clips/index.csv") -> list[dict[str, str]]:
        with (self.path / file).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def names(self, variant: str, name: str = "out/clips") -> list[str]:
        return sorted(file.name for file in (self.path / f"{name}_{variant}").glob("*"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A finished run that tests only look at."""
    folder = Folder(tmp_path_factory.mktemp("made"))
    assert folder.run(previews=True) == 0
    return folder


def source(clip: Clip, frames: int) -> np.ndarray:
    return resize_crop(read_clip(clip, range(frames)), (40, 48))


def through(model: VideoAutoencoderKL, clip: Clip, frames: int, method: str) -> np.ndarray:
    with torch.no_grad():
        return to_uint8(getattr(model, method)(to_tensor(source(clip, frames))[None])[0])


LENGTHS = {"long": 33, "short": 6, "piece": 21}


def test_ori_is_the_source_after_crop_and_resize_bit_for_bit(made: Folder) -> None:
    for clip in made.clips:
        np.testing.assert_array_equal(made.stored("ori", clip.clip_id), source(clip, LENGTHS[clip.clip_id]))


@pytest.mark.parametrize(("variant", "method"), [("rec", "reconstruct"), ("spatial", "reconstruct_spatial")])
def test_rec_and_spatial_are_what_the_model_gives(made: Folder, variant: str, method: str) -> None:
    for clip in made.clips:
        expected = through(made.model, clip, LENGTHS[clip.clip_id], method)
        stored = made.stored(variant, clip.clip_id)
        assert stored.shape == expected.shape
        assert np.abs(stored.astype(int) - expected).max() <= 1  # summation order


def test_variants_hold_the_same_clips_and_the_index_tells_them(made: Folder) -> None:
    names = ["long.mkv", "piece.mkv", "short.mkv"]
    assert made.names("ori") == made.names("rec") == made.names("spatial") == names
    assert [row["clip_id"] for row in made.rows()] == ["long", "short", "piece"]
    for row, clip in zip(made.rows(), made.clips, strict=True):
        assert (row["frames"], row["height"], row["width"]) == (str(LENGTHS[clip.clip_id]), "40", "48")
        assert (row["source"], row["start_frame"]) == (clip.path, str(clip.start_frame))
        for variant in ("ori", "rec", "spatial"):
            info = lossless_info(made.path / f"out/clips_{variant}" / f"{clip.clip_id}.mkv")
            assert info.sha256 == row[f"{variant}_sha256"] and info.fps == pytest.approx(clip.fps, rel=1e-5)
    assert made.rows("out/clips/failed.csv") == []


def test_previews_and_the_record_of_the_run_are_written(made: Folder) -> None:
    assert len(made.names("preview")) == 9 and "long_rec.mp4" in made.names("preview")
    record = json.loads((made.path / "out/clips/run.json").read_text())
    assert record["command"] == "reconstruct" and record["clips"] == 3 and record["frames_made"] == 60
    assert record["inputs"]["checkpoint"]["sha256"] and record["settings"]["weights_sha256"]


def test_results_are_the_same_bytes_every_time(made: Folder) -> None:
    assert made.run("again") == 0
    for variant in ("ori", "rec", "spatial"):
        for file in made.names(variant):
            first = made.path / f"out/clips_{variant}" / file
            assert first.read_bytes() == (made.path / f"again_{variant}" / file).read_bytes()


@pytest.mark.parametrize("norm_scope", ["clip", "frame"])  # "frame" streams
def test_clips_whole_and_longer_than_a_piece(made: Folder, norm_scope: str) -> None:
    whole = make_video_vae(made.path / "whole", chunk_frames=None, norm_scope=norm_scope)
    config = {"reconstruction": {"max_frames": None}}
    assert made.run("uncut", config=config, model="whole/model") == 0
    expected = through(whole, made.clips[0], 50, "reconstruct")
    assert np.abs(made.stored("rec", "long", "uncut").astype(int) - expected).max() <= 1


def test_frame_interval(made: Folder) -> None:
    assert made.run("third", config={"data": {"resolution": [40, 48], "frame_interval": 3}}) == 0
    expected = resize_crop(read_clip(made.clips[0], range(0, 50, 3)), (40, 48))
    np.testing.assert_array_equal(made.stored("ori", "long", "third"), expected)
    assert lossless_info(made.path / "third_ori/long.mkv").fps == pytest.approx(25 / 3)


def test_clips_resampled_by_time(made: Folder) -> None:
    assert made.run("slower", config={"data": {"resolution": [40, 48], "fps": 10}}) == 0
    expected = resize_crop(read_clip(made.clips[0], Sampling(fps=10).indices(made.clips[0])), (40, 48))
    assert len(expected) == 20  # of 50 frames at 25 a second
    np.testing.assert_array_equal(made.stored("ori", "long", "slower"), expected)
    assert lossless_info(made.path / "slower_ori/long.mkv").fps == 10


def times(folder: Folder) -> dict[str, int]:
    files = (file for file in folder.path.glob("out/clips_*/*.mkv"))
    return {f"{file.parent.name}/{file.stem}": file.stat().st_mtime_ns for file in files}


def remade(folder: Folder, before: dict[str, int]) -> set[str]:
    return {name.split("/")[1] for name, time in times(folder).items() if before.get(name) != time}


def test_a_second_run_makes_only_what_is_missing_or_damaged(folder: Folder) -> None:
    assert folder.run() == 0
    index, before = folder.rows(), times(folder)
    assert folder.run() == 0
    assert remade(folder, before) == set()
    (folder.path / "out/clips_spatial/short.mkv").unlink()
    assert folder.run() == 0
    assert remade(folder, before) == {"short"}
    before = times(folder)
    cut = folder.path / "out/clips_rec/long.mkv"
    cut.write_bytes(cut.read_bytes()[:-100])
    (folder.path / "out/clips/records/piece.json").unlink()  # what a kill between files and record leaves
    assert folder.run() == 0
    assert remade(folder, before) == {"long", "piece"}
    assert folder.rows() == index


def test_clips_of_other_weights_or_settings_are_never_kept(folder: Folder) -> None:
    assert folder.run() == 0
    before = times(folder)
    make_video_vae(folder.path, seed=1)
    assert folder.run() == 0
    assert remade(folder, before) == {"long", "short", "piece"}
    before = times(folder)
    assert folder.run(config={"reconstruction": {"max_frames": 20, "windows": 1}}) == 0
    assert remade(folder, before) == {"long", "piece"}  # the short one is the same


def test_a_long_clip_has_several_windows_each_as_a_clip(folder: Folder) -> None:
    config = {"reconstruction": {"max_frames": 20}}  # the long clip has 50 frames, the piece 21
    assert folder.run(config=config, previews=True) == 0
    files = ["long.mkv", "long@30.mkv", "piece.mkv", "short.mkv"]
    assert folder.names("ori") == folder.names("rec") == folder.names("spatial") == files
    assert [(row["clip_id"], row["frames"], row["start_frame"]) for row in folder.rows()] == [
        ("long", "20", "0"), ("long@30", "20", "30"), ("short", "6", "0"), ("piece", "20", "9"),
    ]  # fmt: skip
    np.testing.assert_array_equal(folder.stored("ori", "long@30"), source(folder.clips[0], 50)[30:])
    window = replace(folder.clips[0], start_frame=30, num_frames=20)
    expected = through(folder.model, window, 20, "reconstruct")
    assert np.abs(folder.stored("rec", "long@30").astype(int) - expected).max() <= 1  # summation order
    assert {name.split("_")[0] for name in folder.names("preview")} == {"long", "piece", "short"}  # people watch one
    before = times(folder)
    assert folder.run("out/clips", "--windows", "1", config=config) == 0
    assert folder.names("rec") == ["long.mkv", "piece.mkv", "short.mkv"] and not remade(folder, before)
    assert folder.run("out/clips", "--windows", "0", config=config) == 2


def test_a_bad_clip_is_listed_and_the_others_go_on(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.run() == 0
    (folder.path / "text.mp4").write_text("no video")
    (folder.path / "short.mkv").write_text(
        "no video"
    )  # was fine before, and its old reconstruction must not pass for a new one
    long, short, piece = folder.clips
    bad = [
        replace(long, clip_id="text", path=str(folder.path / "text.mp4"), source_id="text"),
        replace(piece, clip_id="cut", start_frame=20, num_frames=33, source_id="cut"),
        replace(short, source_id="changed"),
    ]
    write_table(folder.path / "test.csv", [bad[0], long, *bad[1:]])
    assert folder.run() == 0
    failed = {row["clip_id"]: row for row in folder.rows("out/clips/failed.csv")}
    assert set(failed) == {"text", "cut", "short"}
    assert failed["text"]["path"] == bad[0].path and "unreadable" in failed["text"]["reason"]
    assert "truncated" in failed["cut"]["reason"]
    assert folder.names("ori") == folder.names("rec") == folder.names("spatial") == ["long.mkv"]
    assert [row["clip_id"] for row in folder.rows()] == ["long"]
    assert folder.run("out/clips", "--strict") == 2
    write_table(folder.path / "test.csv", bad)
    assert folder.run() == 2
    assert "no clip could be reconstructed" in capsys.readouterr().err
    assert not (folder.path / "out/clips/index.csv").exists()


def test_a_clip_that_is_gone_leaves_no_list_where_files_are_required(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "short.mkv").rename(folder.path / "elsewhere")
    assert folder.run("out/clips", "--require-files") == 2
    assert "short.mkv: missing: no such file; put the file back" in capsys.readouterr().err
    assert not (folder.path / "out/clips/index.csv").exists()
    (folder.path / "elsewhere").rename(folder.path / "short.mkv")
    before = times(folder)
    assert folder.run("out/clips", "--require-files") == 0
    assert remade(folder, before) == {"short"} and len(folder.rows()) == 3


def test_a_clip_that_is_gone_is_listed_as_failed_elsewhere(folder: Folder) -> None:
    (folder.path / "short.mkv").unlink()
    assert folder.run() == 0
    assert [row["clip_id"] for row in folder.rows("out/clips/failed.csv")] == ["short"]
    assert [row["clip_id"] for row in folder.rows()] == ["long", "piece"]


def test_shards_together_make_every_clip_once(folder: Folder) -> None:
    for shard in ("0", "1"):
        index = f"--index={folder.path / 'out/clips' / f'shard_{shard}.csv'}"
        assert folder.run("out/clips", f"--shard={shard}", "--shards=2", index) == 0
    rows = [[row["clip_id"] for row in folder.rows(f"out/clips/shard_{shard}.csv")] for shard in (0, 1)]
    assert rows == [["long", "piece"], ["short"]]
    assert len(folder.names("rec")) == 3
    assert (folder.path / "out/clips/shard_1.failed.csv").exists() and (
        folder.path / "out/clips/shard_1.run.json"
    ).exists()


def test_clips_that_left_the_table_leave_the_folders(folder: Folder) -> None:
    assert folder.run(previews=True) == 0
    foreign = folder.path / "out/clips_ori/mine.mkv"
    write_lossless(foreign, np.zeros((1, 8, 8, 3), np.uint8), 25)
    write_table(folder.path / "test.csv", folder.clips[1:])
    assert folder.run(previews=True) == 0
    assert folder.names("rec") == ["piece.mkv", "short.mkv"]
    assert len(folder.names("preview")) == 6
    assert foreign.exists()  # nothing is removed that no run recorded


def test_samples_are_a_function_of_seed_and_clip(folder: Folder) -> None:
    def hashes(name: str, seed: int, *options: str) -> dict[str, str]:
        assert folder.run(name, *options, config={"seed": seed}) == 0
        return {row["clip_id"]: row["rec_sha256"] for row in folder.rows(f"{name}/index.csv")}

    mode, first, again, other = (
        hashes("mode", 1), hashes("a", 1, "--sample"), hashes("b", 1, "--sample"), hashes("c", 2, "--sample")
    )  # fmt: skip
    assert first == again
    assert all(len({mode[clip], first[clip], other[clip]}) == 3 for clip in mode)
    assert not (folder.path / "a_preview").exists()  # none were asked for


def test_baselines(made: Folder) -> None:
    assert made.run("base", "--baselines") == 0
    assert made.names("ori", "base") == made.names("mean", "base") == made.names("repeat", "base")
    for clip in made.clips:
        length = LENGTHS[clip.clip_id]
        frames = source(clip, length)
        mean = np.rint(frames.mean(axis=0)).astype(np.uint8)
        np.testing.assert_array_equal(made.stored("mean", clip.clip_id, "base"), np.repeat(mean[None], length, axis=0))
        spatial = made.stored("spatial", clip.clip_id)
        held = [t // 17 * 17 + t % 17 // 4 * 4 for t in range(length)]
        repeat = made.stored("repeat", clip.clip_id, "base")
        assert np.abs(repeat.astype(int) - spatial[held]).max() <= 1
    assert list(made.rows("base/index.csv")[0])[-3:] == ["ori_sha256", "mean_sha256", "repeat_sha256"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_weights_file_with_the_published_names_gives_the_same(made: Folder, suffix: str) -> None:
    state = {name: value.contiguous() for name, value in made.model.state_dict().items()}
    path = made.path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    option = f"--spatial={made.path / 'spatial'}"
    assert made.run("file" + suffix[1:], option, model=path.name) == 0
    hashes = [row["rec_sha256"] for row in made.rows(f"file{suffix[1:]}/index.csv")]
    assert hashes == [row["rec_sha256"] for row in made.rows()]


def test_weights_that_do_not_fit_are_named(made: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    state = {name: value.contiguous() for name, value in made.model.state_dict().items()}
    state["surplus"] = state.pop("temporal_vae.quant_conv.conv.bias")
    state["scale"] = torch.ones(3)
    save_file(state, made.path / "other.safetensors")
    assert made.run("bad", f"--spatial={made.path / 'spatial'}", model="other.safetensors") == 2
    error = capsys.readouterr().err
    for part in ("1 missing (temporal_vae.quant_conv.conv.bias)", "1 unexpected (surplus)", "1 misshapen (scale"):
        assert part in error
    (made.path / "broken.pt").write_bytes(b"nothing")
    for name, message in (
        ("broken.pt", "broken.pt: refused"),
        ("nowhere", "no such file or folder"),
        ("spatial", "missing"),
    ):
        assert made.run("bad", model=name) == 2
        assert message in capsys.readouterr().err


def test_images_are_left_out_unless_asked_for(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder.path / "image.png")
    image = replace(
        folder.clips[0], clip_id="image", path=str(folder.path / "image.png"), kind="image", num_frames=1, fps=None
    )
    write_table(folder.path / "test.csv", [image])
    assert folder.run() == 2
    assert "holds no video" in capsys.readouterr().err
    assert folder.run("out/clips", "--images") == 0
    np.testing.assert_array_equal(folder.stored("ori", "image"), resize_crop(pixels[None], (40, 48)))


def test_regroup_cuts_any_pieces_into_groups_of_a_length() -> None:
    frames = np.arange(23, dtype=np.uint8)[:, None, None, None]

    def pieces(size: int) -> Iterator[np.ndarray]:
        return (frames[start : start + size] for start in range(0, 23, size))

    for size in (1, 4, 5, 7, 23, 40):
        for length in (1, 3, 5, 10, 23, 30):
            groups = [np.concatenate(list(group)) for group in regroup(pieces(size), length)]
            assert [len(group) for group in groups] == [min(length, 23 - start) for start in range(0, 23, length)]
            np.testing.assert_array_equal(np.concatenate(groups), frames)
        assert [len(np.concatenate(list(group))) for group in regroup(pieces(size), None)] == [23]
