"""`evaluate --check` scores a sample of frames again by scikit-image and lpips, and fails where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics_material import bikes, save_clip, write_lpips
from video_vae.cli import main_for
from video_vae.metrics import scoring
from video_vae.metrics.peers import TOLERANCES
from video_vae.report.key_facts import checks


def evaluate(folder: Path, *options: str) -> int:
    where = [f"--real_video_dir={folder / 'x_ori'}", f"--generated_video_dir={folder / 'x_rec'}", "--device=cpu"]
    return main_for("evaluate", [*where, "--output", str(folder / "scores.json"), *options])


def summary(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return values


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Six clips of 6 frames, 64x64; one is its original."""
    real, generated = bikes()
    for shift, name in enumerate("abcdef"):
        save_clip(tmp_path / "x_ori" / f"{name}.mkv", np.roll(real, shift, axis=2))
        save_clip(tmp_path / "x_rec" / f"{name}.mkv", np.roll(generated if shift else real, shift, axis=2))
    return tmp_path


def test_scores_agree_and_the_summary_says_how_well(clips: Path) -> None:
    assert evaluate(clips, "--metric", "psnr", "ssim", "--crop_size", "48", "--sample_rate", "2", "--check") == 0
    said = summary(clips)["check"]
    assert 4 <= said["frames"] <= 8 and list(said["by"]) == ["scikit-image"]
    assert said["tolerance"] == {"psnr": TOLERANCES["psnr"], "ssim": TOLERANCES["ssim"]}
    assert said["largest_difference"].keys() == said["tolerance"].keys()
    assert 0 < said["largest_difference"]["psnr"] < 1e-3 and 0 < said["largest_difference"]["ssim"] < 1e-5


def test_lpips_is_checked_by_its_package_where_asked(clips: Path, tmp_path: Path) -> None:
    weights = write_lpips(tmp_path)
    assert evaluate(clips, "--metric", "lpips", "--lpips", str(weights), "--check", "lpips") == 0
    said = summary(clips)["check"]
    assert list(said["by"]) == ["lpips"] and 0 < said["largest_difference"]["lpips"] < 1e-4
    assert evaluate(clips, "--metric", "psnr") == 0
    assert "check" not in summary(clips)


def test_scores_that_others_do_not_confirm_are_not_written(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = scoring.ssim
    monkeypatch.setattr(scoring, "ssim", lambda real, generated: right(real, generated) + 2e-5)
    assert evaluate(clips, "--metric", "ssim", "--check") == 2
    said = capsys.readouterr().err
    assert "--check: ssim of a (rec, frame" in said and "scikit-image" in said and "more than 1e-05 apart" in said
    assert not (clips / "scores.json").exists()


def test_the_report_says_it() -> None:
    check = {"frames": 8, "by": {"scikit-image": "0.26.0"}, "largest_difference": {"psnr": 2e-6, "ssim": 3e-7}}
    runs = [SimpleNamespace(record={"check": check}), SimpleNamespace(record={"check": None})]
    text = "8 frames again by scikit-image 0.26.0; largest differences: PSNR 2.0e-06, SSIM 3.0e-07"
    assert checks(runs) == [("Scores checked", text)]  # type: ignore[arg-type]
    assert checks(runs[1:]) == []  # type: ignore[arg-type]
