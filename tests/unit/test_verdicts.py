"""A verdict needs enough sources, significance after Holm's correction, and a difference that matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report_material import build_report, make_results
from video_vae.config import parse_config
from video_vae.config.runs import resolve
from video_vae.errors import UserError
from video_vae.metrics.intervals import MIN_SOURCES
from video_vae.report.answer import answer, unproven_stages, why_no_gain
from video_vae.report.compare import Row, differences, experiment_pairs, paired_difference, rule_text
from video_vae.report.experiments import setting_differences
from video_vae.report.tables import Results, load_results
from video_vae.report.terms import METRICS

REC = Row(experiment="demo", stage="stage3", variant="rec")
SPATIAL = Row(experiment="demo", stage="stage3", variant="spatial")
NOISE = np.tile([0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.05, -0.3], 3)
CLIPS = len(NOISE)
EACH = [f"source {index}" for index in range(CLIPS)]


def scored(
    folder: Path, psnr: Mapping[str, Sequence[float] | np.ndarray], sources: Sequence[str] | None = None
) -> Results:
    """Write clips.csv and metrics.csv of one stage, and read them as the report does."""
    tables = []
    for variant, values in psnr.items():
        names = [f"clip_{index}" for index in range(len(values))]
        table = pd.DataFrame({"variant": variant, "clip_id": names, "frames": 5, "psnr": values, "ssim": 0.9})
        tables.append(table if sources is None else table.assign(source_id=list(sources)))
    place = folder / "demo/stage3/metrics"
    place.mkdir(parents=True)
    pd.concat(tables).to_csv(place / "clips.csv", index=False)
    rows = [
        {"experiment": "demo", "stage": "stage3", "variant": name, "clips": len(values), "psnr": np.mean(values)}
        for name, values in psnr.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    return load_results(parse_config({"experiment": "demo"}), folder)


def verdict(results: Results) -> str:
    found = paired_difference(results, REC, SPATIAL, "psnr")
    assert found is not None
    return found.verdict


@pytest.mark.parametrize(
    ("clips", "gap", "expected"),
    [
        (CLIPS, -1.0, "worse"),
        (CLIPS, 1.0, "better"),
        (CLIPS, 0.05, "no significant difference"),
        (MIN_SOURCES, 1.0, "better"),
        (MIN_SOURCES - 1, 1.0, "too few sources"),
    ],
)
def test_verdicts(tmp_path: Path, clips: int, gap: float, expected: str) -> None:
    spatial = np.linspace(25, 30, clips)
    assert verdict(scored(tmp_path, {"rec": spatial + gap + NOISE[:clips], "spatial": spatial})) == expected


def test_a_sure_difference_may_be_too_small_to_matter(tmp_path: Path) -> None:
    """The demo's 0.0013 dB, on many clips that all agree."""
    spatial = np.linspace(25, 30, CLIPS)
    results = scored(tmp_path, {"rec": spatial + 0.0013 + NOISE / 1000, "spatial": spatial})
    assert verdict(results) == "too small to matter"
    found = paired_difference(results, REC, SPATIAL, "psnr")
    assert found is not None and found.p < 0.05 and found.low > 0


def test_clips_of_few_sources_carry_no_verdict(tmp_path: Path) -> None:
    spatial = np.linspace(25, 30, CLIPS)
    results = scored(tmp_path, {"rec": spatial - 1 + NOISE, "spatial": spatial}, sources="aabbccdd" * 3)
    assert verdict(results) == "too few sources"
    said = answer(results)
    assert f"On {CLIPS} held-out clips from 4 sources" in said
    assert said.endswith("These differences are no verdict: 4 independent sources cannot carry one, 20 can.")


def test_with_enough_sources_the_answer_stands_without_reserve(tmp_path: Path) -> None:
    spatial = np.linspace(25, 30, CLIPS)
    said = answer(scored(tmp_path, {"rec": spatial - 1 + NOISE, "spatial": spatial}, sources=EACH))
    assert "no verdict" not in said and "below the spatial VAE alone." in said
    said = answer(scored(tmp_path / "other", {"rec": spatial + NOISE, "spatial": spatial}, sources=EACH))
    assert "no significant difference" in said


def test_many_comparisons_are_corrected_for(tmp_path: Path) -> None:
    """Alone 0.13 dB would be a verdict; among twenty comparisons it is none."""
    spatial = np.linspace(25, 30, CLIPS)
    results = scored(tmp_path, {"rec": spatial + 0.17 + NOISE, "spatial": spatial})
    alone = paired_difference(results, REC, SPATIAL, "psnr")
    assert alone is not None and alone.verdict == "better"
    among = differences(results, [(REC, SPATIAL)] * 20, ["psnr"])
    assert {one.verdict for one in among} == {"no significant difference"}
    assert among[0].p == pytest.approx(20 * alone.p) and (among[0].low, among[0].high) == (alone.low, alone.high)
    assert "for the 20 comparisons of this table" in rule_text(among)
    assert all(metric.smallest > 0 for metric in METRICS.values())


def test_stages_that_an_experiment_shares_are_not_compared(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=("demo", "no_identity"))
    config["experiments"] = {"no_identity": {"stages": {"stage3": {"kl_weight": 0.0}}}}
    pairs = experiment_pairs(load_results(parse_config(config), tmp_path / "results"))
    assert [first.stage for first, _ in pairs] == ["stage3"]
    page = build_report(config, tmp_path / "results", tmp_path / "report.html")
    section = page[page.index('id="experiments"') : page.index('id="standing"')]
    assert "too few sources" in section and "correction for the 5 comparisons of this table" in section


def test_an_experiment_may_be_compared_with_another_one(tmp_path: Path) -> None:
    names = ("demo", "short", "short_no_kl")
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=names)
    short = {"reconstruction": {"max_frames": 9}}
    no_kl = short | {"stages": {"stage3": {"kl_weight": 0.0}}, "report": {"against": "short"}}
    config["experiments"] = {"short": short, "short_no_kl": no_kl}
    results = load_results(parse_config(config), tmp_path / "results")
    pairs = {(first.experiment, second.experiment, first.stage) for first, second in experiment_pairs(results)}
    expected = {("short", "demo", stage) for stage in ("stage1", "stage2", "stage3")}
    assert pairs == expected | {("short_no_kl", "short", "stage3")}
    page = build_report(config, tmp_path / "results", tmp_path / "report.html")
    section = page[page.index('id="experiments"') : page.index('id="standing"')]
    assert "short_no_kl, against short</h3>" in section and "less short, 2 clips" in section
    assert setting_differences(results, "short_no_kl") == [("stages.stage3.kl_weight", "1e-06", "0.0")]


def test_a_stage_that_only_one_of_two_runs_trains_is_one_difference(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=("demo", "untrained"))
    config["experiments"] = {"untrained": {"stages": {"stage2": None, "stage3": None}}}
    results = load_results(parse_config(config), tmp_path / "results")
    left_out = [(f"stages.{stage}", "trained", "left out") for stage in ("stage2", "stage3")]
    assert setting_differences(results, "untrained") == left_out


def test_a_run_to_compare_with_that_is_not_there_is_named() -> None:
    config = parse_config({"experiments": {"short": {"report": {"against": "sort"}}}})
    with pytest.raises(UserError, match=r"experiments\.short\.report\.against: no run 'sort'; there are paper, short"):
        resolve(config)


def test_stages_without_a_verdict_are_named_in_what_they_are_for(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4)
    results = load_results(parse_config(config), tmp_path / "results")
    text = unproven_stages(results) or ""
    assert "Stage 2 less stage 1, PSNR " in text and "Stage 3 less stage 2, LPIPS " in text
    assert text.count("too few sources") == 2
    clear = {"stage1": 20.0, "stage2": 21.0, "stage3": 21.0}
    rows = [
        {
            "experiment": "demo",
            "stage": stage,
            "variant": "rec",
            "clip_id": f"{clip}",
            "psnr": psnr + clip,
            "lpips": 0.4,
        }
        for stage, psnr in clear.items()
        for clip in range(MIN_SOURCES)
    ]
    text = unproven_stages(replace(results, clips=pd.DataFrame(rows))) or ""
    assert "Stage 2" not in text and "Stage 3 less stage 2, LPIPS " in text
    assert text.endswith("no significant difference.")
    better = pd.DataFrame(rows).assign(lpips=lambda table: np.where(table["stage"] == "stage3", 0.3, 0.4))
    assert unproven_stages(replace(results, clips=better)) is None


def test_stages_that_are_scored_no_longer_have_no_part_in_verdicts(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4)
    shown = load_results(parse_config(config), tmp_path / "results")
    assert "Stage 2 less stage 1" in (unproven_stages(shown) or "")
    less = {**config, "evaluation": {**config["evaluation"], "stages": ["stage1", "stage3"], "baselines": False}}
    shown = load_results(parse_config(less), tmp_path / "results")
    assert {*shown.clips["stage"]} == {*shown.frames["stage"]} == {"stage1", "stage3"}
    text = unproven_stages(shown) or ""
    assert "Stage 3 less stage 1" in text and "tage 2" not in text
    table = shown.metrics[shown.metrics["stage"] != "stage2"].assign(psnr=24.84)
    text = why_no_gain(replace(shown, metrics=table)) or ""
    assert "they took 230 optimizer steps in all, the paper's 1,180,000" in text  # those of stage 2, too


def test_a_short_training_whose_stages_hardly_differ_says_why(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=6)
    results = load_results(parse_config(config), tmp_path / "results")
    assert why_no_gain(results) is None  # each stage of this one is better than the one before
    results.metrics.loc[results.metrics["variant"] == "rec", "psnr"] = [24.84, 24.84, 24.86]
    text = why_no_gain(results) or ""
    assert "(+0.02 dB from Stage 1 to Stage 3)" in text and "230 optimizer steps in all, the paper's 1,180,000" in text
    assert "random weights" in text and "raise stages.*.steps" in text
    long = parse_config({**config, "stages": {}})
    assert why_no_gain(replace(results, config=long)) is None
    table = pd.read_csv(tmp_path / "results/metrics.csv")
    start = table[table["stage"] == "stage1"].assign(stage="start", psnr=24.87)
    for scores, said in (
        ([24.5, 24.6, 24.86], "hardly differ yet (−0.01 dB from Start to Stage 3)"),  # gained what stage 1 had lost
        ([24.5, 24.6, 24.7], "have not raised the PSNR yet (−0.17 dB from Start to Stage 3)"),
        ([25.5, 25.5, 25.5], "hardly differ yet (+0.00 dB from Stage 1 to Stage 3)"),
        ([24.5, 24.6, 25.5], ""),
    ):
        scored = pd.concat([start, table], ignore_index=True)
        scored.loc[(scored["variant"] == "rec") & (scored["stage"] != "start"), "psnr"] = scores
        text = why_no_gain(replace(results, metrics=scored)) or ""
        assert said in text and bool(said) == bool(text)
        assert ("close to its start" in text) == ("hardly differ yet (−" in text)
    table.loc[table["variant"] == "rec", "psnr"] = [24.84, 24.84, 24.86]
    table.to_csv(tmp_path / "results/metrics.csv", index=False)
    page = build_report(config, tmp_path / "results", tmp_path / "page.html")
    assert "The stages hardly differ yet (+0.02 dB" in page.replace("&#43;", "+")
