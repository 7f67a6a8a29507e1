"""An evaluation that was cut off goes on with the clips that it lacks, and ends in the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics_material import bikes, save_clip, write_lpips
from video_vae.cli import main_for
from video_vae.metrics import clip_folders
from video_vae.metrics.kept_scores import FOLDER
from video_vae.metrics.pairing import Pair

WRITTEN = ("frames.parquet", "clips.csv", "summary.json")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips, 6 frames of 64x64, and two variants of each."""
    for name, shift in (("a", 0), ("b", 7), ("c", 20)):
        real, generated = (np.roll(frames, shift, axis=2) for frames in bikes())
        for variant, frames in (("ori", real), ("rec", generated), ("spatial", generated[::-1])):
            save_clip(tmp_path / f"x_{variant}" / f"{name}.mkv", frames)
    write_lpips(tmp_path)
    return tmp_path


def evaluate(folder: Path, output: Path, *metrics: str) -> int:
    generated = [str(folder / f"x_{variant}") for variant in ("rec", "spatial")]
    where = ["--real_video_dir", str(folder / "x_ori"), "--generated_video_dir", *generated, "--lpips", str(folder)]
    return main_for("evaluate", [*where, "--device", "cpu", "--output_dir", str(output), "--metric", *metrics])


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that are scored, one after the other; the third ends the run as Ctrl-C does."""
    names: list[str] = []
    score = clip_folders.score_clip

    def cut_off(pair: Pair, *others: Any) -> Any:
        names.append(pair.name)
        if len(names) == 3:
            raise KeyboardInterrupt
        return score(pair, *others)

    monkeypatch.setattr(clip_folders, "score_clip", cut_off)
    return names


def test_what_was_scored_is_not_scored_again(clips: Path, scored: list[str]) -> None:
    metrics = ("psnr", "ssim", "flolpips", "flicker")
    assert evaluate(clips, clips / "scores", *metrics) == 130
    assert [path.name for path in (clips / "scores").iterdir()] == [FOLDER]
    save_clip(clips / "x_rec" / "a.mkv", bikes()[1])  # the same pixels in another file
    assert evaluate(clips, clips / "scores", *metrics) == 0
    assert scored == ["a", "b", "c", "a", "c"]
    assert not (clips / "scores" / FOLDER).exists()
    assert evaluate(clips, clips / "whole", *metrics) == 0
    for name in ("frames.parquet", "clips.csv", "summary.json"):
        assert (clips / "scores" / name).read_bytes() == (clips / "whole" / name).read_bytes()


@pytest.mark.parametrize("change", ["metrics", "damage"])
def test_what_does_not_fit_is_scored_again(clips: Path, scored: list[str], change: str) -> None:
    assert evaluate(clips, clips / "scores", "psnr") == 130
    for file in (clips / "scores" / FOLDER).iterdir() if change == "damage" else ():
        file.write_bytes(file.read_bytes()[:100])
    assert evaluate(clips, clips / "scores", "psnr", *(["ssim"] if change == "metrics" else [])) == 0
    assert scored == ["a", "b", "c", "a", "b", "c"]
    assert not (clips / "scores" / FOLDER).exists()
