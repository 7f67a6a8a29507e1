"""results/metrics.csv: one row per experiment, stage and variant, the same bytes for the same summaries."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from metrics_material import bikes, save_clip
from video_vae.cli import main_for


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    """Score two variants of two clips, one of them identical to its original."""
    real, generated = bikes()
    for name in "ab":
        save_clip(tmp_path / f"x_ori/{name}.mkv", real)
        save_clip(tmp_path / f"x_rec/{name}.mkv", generated if name == "a" else real)
        save_clip(tmp_path / f"x_mean/{name}.mkv", generated)
    folders = [f"--real_video_dir={tmp_path}/x_ori", "--generated_video_dir", f"{tmp_path}/x_rec", f"{tmp_path}/x_mean"]
    output = tmp_path / "summary.json"
    assert main_for("evaluate", [*folders, "--metric", "psnr", "ssim", "--output", str(output)]) == 0
    return output


def collect(output: Path, *entries: str) -> int:
    return main_for("collect-metrics", [*entries, "--output", str(output)])


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_hold_the_summarys_numbers(summary: Path, tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    assert collect(table, f"demo:stage1:{summary}", f"other:stage3:{summary}") == 0
    found = rows(table)
    assert [(row["experiment"], row["stage"], row["variant"]) for row in found] == [
        ("demo", "stage1", "rec"),
        ("demo", "baseline", "mean"),
        ("other", "stage3", "rec"),
        ("other", "baseline", "mean"),
    ]
    expected = json.loads(summary.read_text())["variants"]["rec"]
    row = found[0]
    assert (row["clips"], row["frames"], row["psnr_capped"]) == ("2", "12", "6")
    for column, key in (("psnr", "mean"), ("psnr_std", "std"), ("psnr_low", "low"), ("psnr_high", "high")):
        assert float(row[column]) == pytest.approx(expected["psnr"][key], abs=1e-4)
    assert float(row["psnr_pooled"]) == pytest.approx(expected["psnr_pooled"]["mean"], abs=1e-4)
    assert float(row["ssim"]) == pytest.approx(expected["ssim"]["mean"], abs=1e-6)
    assert row["lpips"] == row["flolpips_low"] == row["flow"] == "" and row["resolution"] == "64x64"


def test_columns_are_the_ones_that_readers_expect(summary: Path, tmp_path: Path) -> None:
    collect(tmp_path / "metrics.csv", f"demo:stage1:{summary}")
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    statistics = ["psnr,psnr_std,psnr_low,psnr_high,psnr_pooled,psnr_capped"]
    statistics += [f"{name},{name}_std,{name}_low,{name}_high" for name in ("ssim", "lpips", "flolpips", "flicker")]
    conditions = "flow,resolution,lpips_weights,spatial_weights,version"
    assert header == f"experiment,stage,variant,clips,frames,{','.join(statistics)},{conditions}"


def test_the_same_summaries_give_the_same_bytes(summary: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert collect(tmp_path / name, f"demo:stage1:{summary}") == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert b"\r" not in (tmp_path / "one").read_bytes()


def test_bad_input_is_named(summary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "metrics.csv"
    assert collect(table, f"demo:stage1:{tmp_path / 'none.json'}") == 2
    assert "none.json: No such file" in capsys.readouterr().err
    (tmp_path / "other.json").write_text('{"variants": 1}')
    assert collect(table, f"demo:stage1:{tmp_path / 'other.json'}") == 2
    assert "other.json is not a summary" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        collect(table, "demo")
    assert "EXPERIMENT:STAGE:SUMMARY.json" in capsys.readouterr().err
    assert not table.exists()
