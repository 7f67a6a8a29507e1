"""Intervals hold the truth as often as they say, take sources for what is independent, and agree with their tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metrics_material import bikes
from video_vae.cli import main_for
from video_vae.data.storage import write_lossless
from video_vae.metrics.intervals import MIN_SOURCES, PAIR_WIDTH, estimate, holm
from video_vae.metrics.summary import statistics


def coverage(draw: np.ndarray, truth: float, sources: list[str] | None = None) -> float:
    found = [estimate(values, sources) for values in draw]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


@pytest.mark.parametrize("clips", [2, 3, 5, 10, 30, 100])
def test_intervals_hold_the_truth_in_95_of_100_cases(clips: int) -> None:
    """Normal and skewed (log-normal, skewness 1.75) clips; benchmarks/coverage.py has more of both."""
    draw = np.random.default_rng(clips).normal(size=(1500, clips))
    assert 0.93 - 0.01 < coverage(draw, 0.0) < 0.97 + 0.01  # 1,500 cases are good for 0.01
    assert 0.93 - 0.01 < coverage(np.exp(0.5 * draw), float(np.exp(0.125))) < 0.97 + 0.01


def test_verdicts_need_as_many_sources_as_the_published_coverage_asks_for() -> None:
    """The lowest shares of the benchmark's table of this project's own scores and differences."""
    text = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+) \| [\d.]+ \| ([\d.]+) to .*? of 20 \| [\d.]+ \| ([\d.]+) to .* of 15 \|$", text, re.MULTILINE
    )
    lowest = {int(clips): min(float(scores), float(differences)) for clips, scores, differences in rows}
    assert min(lowest) < MIN_SOURCES < max(lowest)
    assert all((share >= 93) == (clips >= MIN_SOURCES) for clips, share in lowest.items())


@pytest.mark.parametrize("sizes", [(4,) * 6, (1, 2, 3, 4, 6), (20, 1, 1, 1, 1, 1)])
def test_clips_of_one_source_count_once(sizes: tuple[int, ...]) -> None:
    """Clips resemble those of their source by half: by clips the interval would hold the truth far too seldom."""
    generator = np.random.default_rng(0)
    sources = [f"source {index}" for index, size in enumerate(sizes) for _ in range(size)]
    own, shared = generator.normal(size=(1500, len(sources))), generator.normal(size=(1500, len(sizes)))
    draw = own + np.repeat(shared, sizes, axis=1)
    assert coverage(draw, 0.0, sources) > 0.93 - 0.01
    assert coverage(draw, 0.0) < 0.85


def test_equal_sources_give_students_t_of_their_means() -> None:
    values = np.random.default_rng(1).normal(30, 2, 12) - np.arange(12) % 2
    sources = [f"{index // 3}" for index in range(12)]
    means = values.reshape(4, 3).mean(axis=1)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    found = estimate(values, sources)
    assert (found.clips, found.sources) == (12, 4)
    assert found.mean == pytest.approx(values.mean())
    assert found.low <= expected.low + 1e-9 and found.high >= expected.high - 1e-9
    assert min(abs(found.low - expected.low), abs(found.high - expected.high)) < 1e-9  # Hall widens one end
    unnamed = estimate(values, ["", *sources[1:]])
    assert unnamed.sources == 5  # a clip of unknown source stands for itself


def test_p_is_below_5_percent_where_the_interval_leaves_out_zero() -> None:
    generator = np.random.default_rng(2)
    found = [estimate(generator.gamma(2, size=count) - 1) for count in range(2, 40) for _ in range(20)]
    assert all((one.p < 0.05) == (one.low > 0 or one.high < 0) for one in found)
    assert 0.1 < np.mean([one.p < 0.05 for one in found]) < 0.9


def test_what_holds_no_uncertainty() -> None:
    equal = estimate(np.full(7, 0.1))
    assert (equal.low, equal.high, equal.p) == (equal.mean, equal.mean, 0.0)
    assert estimate(np.zeros(7)).p == 1.0
    one = estimate(np.array([3.0, 4.0]), ["a", "a"])
    assert (one.mean, one.sources, one.p) == (3.5, 1, 1.0) and np.isnan(one.low)


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_statistics_leave_out_nan_and_give_the_bootstraps_interval_too() -> None:
    values = np.random.default_rng(1).normal(30.0, 2.0, 200)
    found = statistics(values, 2000, 0)
    assert found == statistics(values, 2000, 0)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    for name in ("low", "bootstrap_low"):
        assert found[name] == pytest.approx(values.mean() - half, abs=0.05)
    assert statistics(values, 2000, 1)["bootstrap_low"] != found["bootstrap_low"]
    wide = np.array([0.1, 0.9])
    assert estimate(wide).low < 0 and estimate(wide).high > 1
    held = statistics(wide, 10, 0, None, (0.0, 1.0))
    assert (held["low"], held["high"]) == (0.0, 1.0)
    few = statistics(np.array([1.0, np.nan, 3.0]), 10, 0, ["a", "a", "a"])
    assert (few["mean"], few["clips"], few["sources"], few["low"]) == (2.0, 2, 1, None)
    assert few["std"] == pytest.approx(np.sqrt(2))


def test_an_evaluation_takes_sources_from_the_originals_or_a_table(tmp_path: Path) -> None:
    """Four clips, cut from two sources; then a table says otherwise."""
    real, generated = bikes()
    # Sources whose means are near each other: an interval of two is wide, and ends where PSNR does.
    for index, (name, shift) in enumerate(zip("abcd", (0, 1, 0, 2), strict=True)):
        shifted = np.roll(generated, shift, axis=2)
        for side, frames in (("ori", real), ("rec", shifted)):
            write_lossless(tmp_path / f"x_{side}/{name}.mkv", frames, 25, meta={"source_id": f"{index // 2}"})
    command = [f"--real_video_dir={tmp_path}/x_ori", f"--generated_video_dir={tmp_path}/x_rec", "--device=cpu"]
    command += ["--metric", "psnr", f"--output_dir={tmp_path}/scores"]

    def score(*more: str) -> tuple[dict[str, float], list[str], int]:
        assert main_for("evaluate", [*command, *more]) == 0
        entry = json.loads((tmp_path / "scores/summary.json").read_text())["variants"]["rec"]
        table = pd.read_csv(tmp_path / "scores/clips.csv", dtype=str)
        return entry["psnr"], table["source_id"].tolist(), entry["sources"]

    psnr, sources, count = score()
    values = pd.read_csv(tmp_path / "scores/clips.csv")["psnr"].to_numpy()
    assert (sources, count, psnr["sources"]) == (["0", "0", "1", "1"], 2, 2)
    expected = stats.ttest_1samp(values.reshape(2, 2).mean(axis=1), 0).confidence_interval(0.95)
    half = PAIR_WIDTH * (expected.high - expected.low) / 2
    assert (psnr["low"], psnr["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-3)
    (tmp_path / "clips.csv").write_text("clip_id,source_id\na,x\nb,y\nc,z\nd,z\n")
    assert score("--clips", str(tmp_path / "clips.csv"))[1:] == (["x", "y", "z", "z"], 3)
    rows = [f"demo:stage1:{tmp_path}/scores/summary.json", "--output", str(tmp_path / "metrics.csv")]
    assert main_for("collect-metrics", rows) == 0
    assert pd.read_csv(tmp_path / "metrics.csv")["sources"].tolist() == [3]
