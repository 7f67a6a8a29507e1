"""Claims stand beside what was found, and weights that are scored at several lengths beside each other."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from latex_check import check_latex
from report_material import build_report, make_results
from video_vae.config import STAGES, load_merged, parse_config
from video_vae.config.runs import compared_with, resolve, stage_owner
from video_vae.metrics.intervals import estimate
from video_vae.report.lengths import by_length, length_points
from video_vae.report.paper_tables import paper_tables, write_tables
from video_vae.report.provenance_view import flatten
from video_vae.report.tables import Results, load_results

ROOT = Path(__file__).parents[2]
NAMES = ("demo", "at_5", "no_kl", "no_kl_at_5")
CLAIM = "Without KL"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    config = make_results(tmp_path / "results", clips=3, frames=4, experiments=NAMES)
    at_5, no_kl = {"reconstruction": {"max_frames": 5}}, {"stages": {"stage3": {"kl_weight": 0.0}}}
    config["experiments"] = {
        "at_5": at_5,
        "no_kl": no_kl | {"report": {"claim": CLAIM}},
        "no_kl_at_5": at_5 | no_kl | {"report": {"claim": CLAIM, "against": "at_5"}},
    }
    build_report(config, tmp_path / "results", tmp_path / "report.html")
    return load_results(parse_config(config), tmp_path / "results")


def test_a_claim_stands_beside_its_difference_and_what_could_be_seen(results: Results, tmp_path: Path) -> None:
    write_tables(results, tmp_path / "tables")
    with (tmp_path / "tables/findings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["claim or question"], row["first"], row["second"]) for row in rows] == [
        (CLAIM, "Video VAE, stage 3 (no_kl)", "Video VAE, stage 3 (demo)"),
        (CLAIM, "Video VAE, stage 3 (no_kl_at_5)", "Video VAE, stage 3 (at_5)"),
    ]
    clips = results.clips[(results.clips["stage"] == "stage3") & (results.clips["variant"] == "rec")]
    psnr = clips.pivot(index="clip_id", columns="experiment", values="psnr")
    found = estimate((psnr["no_kl"] - psnr["demo"]).to_numpy())
    assert float(rows[0]["psnr"]) == pytest.approx(found.mean, rel=1e-6)
    assert rows[0]["seen from"] == f"{(found.high - found.low) / 2:.2f} dB"
    assert rows[0]["psnr_verdict"] == "too few sources"
    note = paper_tables(results)["findings"].note
    assert "up to 3 windows of 5 to 33 frames of each" in note and "half of the first interval" in note
    for path in sorted((tmp_path / "tables").glob("*.tex")):
        check_latex(path.read_text(encoding="utf-8"))


def test_weights_that_are_scored_at_several_lengths_make_a_line_each(results: Results, tmp_path: Path) -> None:
    lengths = {name: [one.frames for one in found] for name, found in by_length(results).items()}
    assert lengths == {"demo": [5, 33], "no_kl": [5, 33]}
    points = length_points(by_length(results), results, "psnr")
    clips = results.clips[(results.clips["stage"] == "stage3") & (results.clips["experiment"] == "no_kl_at_5")]
    psnr = clips.pivot(index="clip_id", columns="variant", values="psnr")
    row = points[(points["weights"] == "no_kl") & (points["frames"] == 5)].iloc[0]
    assert row["mean"] == pytest.approx((psnr["rec"] - psnr["spatial"]).mean())
    table = paper_tables(results)["lengths"]
    assert [list(labels) for labels, _ in table.rows] == [[n, f] for n in ("demo", "no_kl") for f in ("5", "33")]
    assert (tmp_path / "figures" / "by_length.svg").is_file()
    assert "By length of the windows" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_runs_of_one_length_make_no_line(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=("demo", "no_identity"))
    results = load_results(parse_config(config), tmp_path / "results")
    assert by_length(results) == {} and not {"lengths", "findings"} & set(paper_tables(results))
    assert isinstance(length_points({}, results, "psnr"), pd.DataFrame)
    page = build_report(config, tmp_path / "results", tmp_path / "report.html")
    assert "By length of the windows" not in page


def test_the_study_compares_runs_that_differ_in_one_thing_and_trains_nothing_twice() -> None:
    runs = resolve(load_merged([ROOT / "config" / name for name in ("demo.yaml", "study.yaml")]))
    trained = {(stage, stage_owner(runs, name, stage)) for name, run in runs.items() for stage in run.needed}
    assert [sum(stage == name for stage, _ in trained) for name in STAGES] == [7, 3, 2]
    claims = {name: run.report.claim for name, run in runs.items() if run.report.claim}
    assert len(set(claims.values())) == len(claims) > 10
    for name in claims:
        own, other = (
            dict(flatten(runs[run].model_dump(mode="json", exclude={"experiment", "report", "evaluation"})))
            for run in (name, compared_with(runs, name))
        )
        changed = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
        changed = {key for key in changed if not (name == "random_start" and key.endswith("learning_rate"))}
        parts = {".".join(key.split(".")[:2]) if key.startswith("stages.stage2") else key for key in changed}
        assert len(parts) == 1, f"{name} differs in {sorted(changed)}"
