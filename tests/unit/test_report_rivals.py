"""The report shows rivals beside the video VAE: tables, verdicts, figures, player, strips, tables for a paper."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from report_material import DULLNESS, build_report, make_results
from video_vae.config import parse_config
from video_vae.config.runs import resolve
from video_vae.reconstruction.rates import Rate, write_rates
from video_vae.report import compare, paper_tables
from video_vae.report.answer import answer
from video_vae.report.lost import lost_outputs
from video_vae.report.tables import Results, load_results

AMOUNTS = {"sdvae": DULLNESS["spatial"] / 2, "theirs": 2 * DULLNESS["stage3"]}
CLIPS = 7


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Results]:
    """Results with two rivals and their report: folder, page, tables."""
    folder = tmp_path_factory.mktemp("rivals")
    config = make_results(folder / "results", clips=CLIPS, frames=6, experiments=("demo", "b"), rivals=AMOUNTS)
    rates = folder / "results/demo/stage3/reconstruction/shard_0.rates.csv"
    write_rates(
        rates, {"clip_00": [asdict(Rate(name="rec", setting=8, pixels=100, bits=9, raw_bits=10, budget=0, psnr=30))]}
    )
    with pytest.MonkeyPatch.context() as patch:  # verdicts of few clips, so that few are made
        for module in (compare, paper_tables):
            patch.setattr(module, "MIN_SOURCES", CLIPS)
        page = build_report(config, folder / "results", folder / "reports" / "report.html")
    return folder, page, load_results(parse_config(config), folder / "results")


def _paper(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "reports" / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_rivals_stand_in_the_first_table_after_the_ceiling(built: tuple[Path, str, Results]) -> None:
    _, page, _ = built
    table = re.search(r'id="answer-table".*?</table>', page, re.DOTALL)
    assert table is not None
    order = [table[0].find(text) for text in ("Spatial VAE alone", "sdvae", "theirs", "Every fourth latent")]
    assert order == sorted(order) and order[0] > 0
    assert "compared on the same windows: each frame through another spatial VAE, their/vae" in page
    assert "videos made elsewhere, from their/videos; stored as mp4 video as found, its coding losses" in page


def test_what_latents_cost_is_drawn_and_said(built: tuple[Path, str, Results]) -> None:
    folder, page, _ = built
    assert "<h3>Rate and distortion</h3>" in page and (folder / "reports/figures/rate_distortion.svg").is_file()
    said = "at 8 bits per number 0.1000 bits per pixel at a fixed length, 0.0900 entropy-coded (30.00 dB)."
    assert said in page and "reference, not a goal" not in page


def test_differences_from_rivals_are_paired_and_judged(built: tuple[Path, str, Results]) -> None:
    folder, _, results = built
    pairs = {(row["first"], row["second"]): row for row in _paper(folder, "differences")}
    for name, verdict in (("sdvae", "worse"), ("theirs", "better")):
        row = pairs["Video VAE, stage 3", name]
        ours, rival = (results.row("demo", *key) for key in (("stage3", "rec"), ("compare", name)))
        assert ours is not None and rival is not None
        assert row["psnr_verdict"] == verdict
        assert float(row["psnr"]) == pytest.approx(ours["psnr"] - rival["psnr"], abs=1e-4)
    assert "dB" in answer(results) and "sdvae" in answer(results) and "theirs" in answer(results)


def test_the_papers_table_holds_rivals_and_says_how_their_videos_were_stored(built: tuple[Path, str, Results]) -> None:
    folder, _, _ = built
    rows = [row["reconstruction"] for row in _paper(folder, "main")]
    assert rows[1:4] == ["Spatial VAE alone", "sdvae", "theirs"]
    text = (folder / "reports" / "tables" / "main.md").read_text(encoding="utf-8")
    assert "theirs given as mp4 video as found, its coding losses included" in text and "sdvae given" not in text
    assert re.search(r"^\| sdvae \| \*\*", text, re.MULTILINE)  # the best, by a verdict


def test_rivals_are_in_player_strips_and_figures(built: tuple[Path, str, Results]) -> None:
    folder, page, _ = built
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    clips = json.loads(found[1])["clips"]
    assert clips
    for clip in clips:
        keys = [video["key"] for video in clip["videos"]]
        assert keys == ["ori", "rec", "spatial", "rec-b", "rival-sdvae", "rival-theirs", "repeat"]
        assert len(clip["series"]["rival-theirs"]["psnr"]) == 6
        assert clip["means"]["rival-sdvae"]["psnr"] > clip["means"]["rec"]["psnr"]
    assert "Error of sdvae" in page and "Error of theirs" in page
    for figure, seen in (("metric_psnr", True), ("psnr_over_time_stage3", True), ("psnr_over_time_stage1", False)):
        drawn = re.search(rf'<figure class="panel">(?:(?!</figure>).)*?{figure}.*?</figure>', page, re.DOTALL)
        assert drawn is not None
        svg = (folder / "reports" / "figures" / f"{figure}.svg").read_text(encoding="utf-8")
        assert ("theirs" in svg) is seen


def test_rivals_whose_clips_were_deleted_are_told(built: tuple[Path, str, Results]) -> None:
    folder, _, results = built
    lost = lost_outputs(resolve(results.config), folder / "results")
    named = [path for part in lost for path in part.paths if "compare" in path]
    index = str(folder / "results/demo/compare/theirs/reconstruction/shard_0.csv")
    assert index in named and not any("reconstruction_theirs" in path for path in named)
