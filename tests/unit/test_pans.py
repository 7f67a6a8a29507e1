"""Clips made of photographs: training clips that say what they are, never held out, the same bytes each time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips import write_video
from report_material import make_results
from video_vae.cli import main
from video_vae.config import Config, Data, parse_config, slices
from video_vae.data.moving_views import pan
from video_vae.data.open_table import read_table
from video_vae.data.pans import size_of
from video_vae.data.table import Clip, is_pan
from video_vae.data.video import read_clip
from video_vae.report.html import environment
from video_vae.report.reproducibility import data_section
from video_vae.report.tables import load_results
from video_vae.tar_members import read_index

PANS: dict[str, Any] = {"clips": 2, "frames": 9}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, and six photographs of which a table holds two out."""
    folder = tmp_path_factory.mktemp("sources")
    rows = []
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        write_video(folder / name, 12, seed=seed)
        rows.append(f"{name},{'test' if seed else 'train'}")
    for seed in range(6):
        _photograph(folder / f"photo{seed}.png", seed)
        rows.append(f"photo{seed}.png,{'test' if seed > 3 else 'train'}")
    (folder / "clips.csv").write_text("\n".join(["path,split", *rows, ""]))
    return folder


def _photograph(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path)


def manifest(source: Path, output: Path, *, workers: int = 1, **data: Any) -> list[Clip]:
    given = {"sources": [str(source)], "resolution": [32, 48], "min_frames": 5, "min_size": 32, "pans": PANS, **data}
    options = ["--output-dir", str(output), "--workers", str(workers)]
    assert main(["manifest", json.dumps({"data": given}), *options]) == 0
    return read_table(output / "manifest.csv")


def test_pans_of_training_photographs_are_listed_as_training_clips(sources: Path, tmp_path: Path) -> None:
    clips = manifest(sources / "clips.csv", tmp_path)
    made = [clip for clip in clips if is_pan(clip.path)]
    assert [clip.clip_id for clip in made] == [f"pan-photo{photo}-{number}" for photo in range(4) for number in (0, 1)]
    assert {(clip.kind, clip.split, clip.num_frames, clip.height, clip.width) for clip in made} == {
        ("video", "train", 9, 32, 48)
    }
    assert made[0].text == "made of photo0"
    assert not [clip.clip_id for clip in read_table(tmp_path / "test.csv") if is_pan(clip.path)]
    assert [clip for clip in read_table(tmp_path / "train.csv") if is_pan(clip.path)] == made
    assert read_clip(made[0]).shape == (9, 32, 48, 3)


def test_a_photograph_gives_the_same_bytes_whatever_lies_beside_it(sources: Path, tmp_path: Path) -> None:
    shard = tmp_path / "all" / "pans.tar"
    manifest(sources / "clips.csv", tmp_path / "all")
    written = shard.read_bytes()
    manifest(sources / "clips.csv", tmp_path / "all", workers=3)
    assert shard.read_bytes() == written
    rows = ("path,split", *(f"{sources}/{row}" for row in ("a.mp4,train", "b.mp4,test", "photo2.png,train")), "")
    (tmp_path / "few.csv").write_text("\n".join(rows))
    few = manifest(tmp_path / "few.csv", tmp_path / "few")
    assert _member(tmp_path / "few", "pan-photo2-1.mp4") == _member(tmp_path / "all", "pan-photo2-1.mp4")
    assert len({clip.source_id for clip in few}) == len(few)


def _member(folder: Path, name: str) -> bytes:
    start, size = read_index(folder / "pans.tar").members[name]
    return (folder / "pans.tar").read_bytes()[start : start + size]


def test_the_frames_are_as_many_and_as_large_as_training_asks_for(sources: Path, tmp_path: Path) -> None:
    clips = manifest(sources / "clips.csv", tmp_path, zoom=1.5, frame_interval=2, fps=10.0)
    made = next(clip for clip in clips if is_pan(clip.path))
    assert (made.height, made.width, made.fps, made.num_frames) == (48, 72, 10.0, 17)
    assert size_of(Data(resolution=(64, 64), crop="random", scales=(1.0, 2.0), zoom=4.0)) == (128, 128)


@pytest.mark.parametrize("seed", range(12))
def test_a_view_never_leaves_the_photograph(seed: int) -> None:
    frames = pan(np.full((90, 200, 3), 200, np.uint8), 17, (32, 48), np.random.default_rng(seed))
    assert frames.shape == (17, 32, 48, 3)
    assert frames.min() > 200 - 6 * 3.0  # nothing but the sensor's noise


def test_some_clips_stand_still_and_others_move() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC))
    clips = [pan(photo, 9, (64, 64), np.random.default_rng(seed)).astype(float) for seed in range(40)]
    motion = np.array([np.abs(clip[-1] - clip[0]).mean() for clip in clips])
    assert 5 <= (motion < 4).sum() <= 30
    assert (motion > 20).sum() >= 5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"pans": {"clips": 1, "frames": 9}, "min_frames": 17}, "pans.frames is 9, fewer than min_frames, 17"),
        ({"min_size": 40}, "too small"),
    ],
)
def test_pans_that_no_training_could_use_are_refused(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: dict[str, Any], said: str
) -> None:
    given = {"sources": [str(sources / "clips.csv")], "resolution": [32, 48], "min_frames": 5, "pans": PANS, **data}
    assert main(["manifest", json.dumps({"data": given}), "--output-dir", str(tmp_path)]) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "train.csv").exists()


def test_without_photographs_pans_are_refused(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"sources": [str(sources / name) for name in ("a.mp4", "b.mp4")], "min_frames": 5, "pans": PANS}
    assert main(["manifest", json.dumps({"data": given}), "--output-dir", str(tmp_path)]) != 0
    assert "no image is among the training clips" in capsys.readouterr().err


def test_somebody_elses_shard_is_not_replaced(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pans.tar").write_bytes(b"mine")
    given = {"sources": [str(sources / "clips.csv")], "resolution": [32, 48], "min_frames": 5, "pans": PANS}
    assert main(["manifest", json.dumps({"data": given}), "--output-dir", str(tmp_path)]) != 0
    assert "pans.tar is there and was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "pans.tar").read_bytes() == b"mine"


def test_pans_change_the_clips_and_only_where_there_are_some() -> None:
    def keys(**data: Any) -> Any:
        config: Config = parse_config({"data": {"sources": ["x"], **data}})
        return slices.data_slice(config), slices.latents_fingerprint(config), slices.stage_slice(config, "stage1")

    assert keys() == keys(pans={"frames": 33})
    assert slices.data_slice(parse_config({"data": {"sources": ["x"], "zoom": 2.0}})) == keys()[0]
    with_pans = keys(pans={"clips": 1})
    assert [old == new for old, new in zip(keys(), with_pans, strict=True)] == [False, False, True]
    assert keys(pans={"clips": 1}, zoom=2.0)[0] != with_pans[0]


def test_the_report_says_how_many_training_clips_are_no_recordings(sources: Path, tmp_path: Path) -> None:
    config = parse_config(make_results(tmp_path))
    page = environment().get_template("data.html")
    assert "Made of photographs" not in page.render({"data": data_section(load_results(config, tmp_path))})
    manifest(sources / "clips.csv", tmp_path / "made")
    shutil.copy(tmp_path / "made" / "train.csv", tmp_path / "demo" / "data")
    found = page.render({"data": data_section(load_results(config, tmp_path))})
    assert "<strong>Made of photographs:</strong> 8 of the training clips" in found
