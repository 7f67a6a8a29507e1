"""The report holds every section, says the numbers of metrics.csv, needs nothing from elsewhere, and never crashes."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report_material import (
    CONFIG,
    METRICS,
    RULEGRAPH,
    add_scored_clips,
    build_report,
    built_config,
    built_report,
    make_results,
)
from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.report import provenance_view
from video_vae.report.answer import answer
from video_vae.report.compare import Row, paired_difference
from video_vae.report.experiments import setting_differences
from video_vae.report.graph import draw_graph, layers, parse_dot, positions, reduced
from video_vae.report.html import environment
from video_vae.report.players import chosen_clips
from video_vae.report.reproducibility import data_section
from video_vae.report.sections import head
from video_vae.report.strips import ERROR_CEILING, error_colours, error_map, spread
from video_vae.report.style import save_figure
from video_vae.report.tables import load_results
from video_vae.report.terms import compact, duration, number
from video_vae.report.timeline import lay_out
from video_vae.report.training_figures import BINS, binned

SECTIONS = ("answer", "results", "clips", "strips", "training", "experiments", "standing", "data", "making")


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the cells that carry a value of metrics.csv."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def having(self, *names: str) -> list[str]:
        return [values[name] or "" for _, values in self.elements for name in names if name in values]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built_report(tmp_path_factory.getbasetemp() / "report")


@pytest.fixture(scope="session")
def page(built: tuple[Path, Path]) -> str:
    return built[0].read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    elements = Elements(page)
    links = elements.having("src", "href", "xlink:href", "poster")
    assert all(value.startswith(("data:", "#")) or value == "explore.html" for value in links)
    loading = [values.get("href") for tag, values in elements.elements if tag in ("link", "iframe", "object", "embed")]
    assert loading == ["data:,"]
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|import\(", page)
    assert len(page) < 20e6


def test_every_section_is_there_and_identifiers_are_unique(page: str) -> None:
    names = Elements(page).having("id")
    assert [name for name in names if name in SECTIONS] == list(SECTIONS)
    assert len(names) == len(set(names))


def test_the_table_says_every_number_of_metrics_csv(built: tuple[Path, Path], page: str) -> None:
    with (built[1] / "metrics.csv").open(encoding="utf-8") as stream:
        written = sorted((metric, row[metric]) for row in csv.DictReader(stream) for metric in METRICS)
    shown = [(v["data-metric"], v["data-value"]) for _, v in Elements(page).elements if "data-metric" in v]
    assert sorted(shown) == written
    assert len(written) == len(METRICS) * (2 * 2 * 3 + 2)


def test_the_answer_states_psnr_and_the_gaps_of_metrics_csv(built: tuple[Path, Path], page: str) -> None:
    table = pd.read_csv(built[1] / "metrics.csv").set_index(["experiment", "stage", "variant"])["psnr"]
    rec = table["demo", "stage3", "rec"]
    said = re.search(r'<p class="lead">(.*?)</p>', page)
    assert said is not None
    expected = [number(rec)]
    for stage, variant in (("stage3", "spatial"), ("baseline", "repeat"), ("baseline", "mean")):
        expected.append(f"{number(abs(rec - table['demo', stage, variant]))} dB")
    for text in expected:
        assert text in said[1]
    assert "below the spatial VAE alone" in said[1]
    assert "95 % interval" in said[1]


def test_names_from_the_data_cannot_break_the_page(page: str) -> None:
    assert "clips/<broken>.mp4" not in page
    assert "clips/&lt;broken&gt;.mp4" in page


def test_two_reports_of_a_run_are_equal_figures_included(built: tuple[Path, Path], tmp_path: Path, page: str) -> None:
    again = build_report(built_config(), built[1], tmp_path / "report.html", "--rulegraph", str(built[1] / "graph.dot"))
    assert again == page
    first, second = built[0].parent / "figures", tmp_path / "figures"
    names = sorted(path.name for path in first.iterdir())
    assert {"metric_psnr.svg", "training.svg", "experiments_training.svg", "rulegraph.svg"} <= set(names)
    assert {path.stem for path in first.glob("*.svg")} == {path.stem for path in first.glob("*.pdf")}
    assert sorted(path.name for path in second.iterdir()) == names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_a_figure_is_saved_for_a_paper_as_svg_and_pdf(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        save_figure(draw_graph(parse_dot(RULEGRAPH)), tmp_path / folder, "rules")
    for name in ("rules.svg", "rules.pdf"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / "rules.pdf").read_bytes().startswith(b"%PDF")


def test_an_empty_results_folder_gives_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    page = build_report(CONFIG, tmp_path / "results", tmp_path / "report.html")
    assert "no reconstruction has been scored" in page
    assert "No training log" in page
    assert "No benchmark files" in page
    assert "No job graph was given" in page
    assert page.count('class="missing"') >= 8


def test_a_run_without_baselines_benchmarks_or_stored_clips_is_reported(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config = make_results(results, clips=2, frames=6)
    for name in (
        "benchmarks",
        "demo/baselines",
        "demo/stage3/reconstruction_preview",
        "demo/stage3/reconstruction_rec",
    ):
        shutil.rmtree(results / name)
    (results / "demo" / "data" / "rejected.csv").write_text("path,reason,detail\n", encoding="utf-8")
    table = pd.read_csv(results / "metrics.csv")
    table[table["stage"] != "baseline"].to_csv(results / "metrics.csv", index=False)
    page = build_report(config, results, tmp_path / "report.html")
    assert "No file was rejected" in page
    assert "No clip can be played" in page
    assert "No benchmark files" in page
    said = re.search(r'<p class="lead">(.*?)</p>', page)
    assert said is not None
    assert "below the spatial VAE alone." in said[1]


def test_records_and_failures_of_shards_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "demo/stage1/reconstruction"
    folder.mkdir(parents=True)
    record = {"command": "reconstruct", "storage": "lossless", "failed": {"gone": "missing"}}
    for shard in (0, 1):
        (folder / f"shard_{shard}.run.json").write_text(json.dumps(record), encoding="utf-8")
        (folder / f"shard_{shard}.failed.csv").write_text("clip_id,path,reason\n" + "gone,a.mp4,missing\n" * shard)
    (tmp_path / "metrics.csv").write_text(
        "experiment,stage,variant,clips,rfvd,rfvd_name,rfvd_features\ndemo,stage1,rec,2,3.5,rfvd_n4_f16_s1,net:ab\n"
    )
    results = load_results(parse_config(CONFIG), tmp_path)
    assert [run.name for run in results.runs] == [f"demo/stage1/reconstruction/shard_{shard}" for shard in (0, 1)]
    assert ("storage", "lossless") in provenance_view.environment(results.runs).shared
    assert results.failed.to_dict("records") == [
        {"run": "demo/stage1", "clip_id": "gone", "path": "a.mp4", "reason": "missing"}
    ]
    page = build_report(CONFIG, tmp_path, tmp_path / "report.html")
    assert "Clips that could not be reconstructed" in page and "rfvd_n4_f16_s1" in page


def test_a_missing_results_folder_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", json.dumps(CONFIG), "--results", str(tmp_path / "none")]) == 2
    assert "none does not exist: run the workflow first" in capsys.readouterr().err


def test_the_answer_without_scores_is_no_number(tmp_path: Path) -> None:
    assert not re.search(r"\d", answer(load_results(parse_config(CONFIG), tmp_path)))


def test_settings_that_differ_are_listed_with_their_defaults() -> None:
    rows = {row.key: (row.value, row.default) for row in provenance_view.changed_settings(parse_config(CONFIG))}
    assert rows["data.resolution"] == ("[64, 64]", "[256, 256]")
    assert rows["stages.stage1.steps"] == ("120", "380000")
    assert "stages.stage1.identity_weight" not in rows


def test_code_seed_machine_and_the_hashes_of_all_weights_are_said(page: str) -> None:
    section = page[page.index('id="making"') :]
    for said in ("commit 0123456789ab, clean", "A processor, 2 cores", "1 × 2", "34" * 32, "12" * 32, "cd" * 32):
        assert said in section


def test_the_shards_of_an_array_are_one_row_of_the_costs_and_repeats_are_averaged() -> None:
    told = pd.DataFrame(
        [
            ("demo/reconstruct_0", 10.0, 100.0, 8.0, 80.0),
            ("demo/reconstruct_1", 30.0, 300.0, np.nan, 100.0),
            ("demo/reconstruct_2", 20.0, 200.0, np.nan, np.nan),
            ("demo/train", 7.0, np.nan, 5.0, np.nan),
            ("demo/train", 9.0, np.nan, 7.0, np.nan),
        ],
        columns=["job", "s", "max_rss", "cpu_time", "mean_load"],
    )
    shards, training = provenance_view.job_costs(told).to_dict("records")
    assert shards == {
        "job": "demo/reconstruct",
        "jobs": 3,
        "s": 60,
        "longest": 30,
        "max_rss": 300,
        "cpu_time": 8,
        "mean_load": 95,
    }
    assert (training["jobs"], training["s"], training["cpu_time"]) == (1, 8, 6)
    assert np.isnan(training["max_rss"]) and np.isnan(training["mean_load"])


def test_rules_stand_below_what_they_need() -> None:
    graph = parse_dot(RULEGRAPH)
    depth, labels = layers(graph), dict(graph.nodes(data="label"))
    assert len(labels) == 7
    assert all(depth[first] < depth[second] for first, second in graph.edges)
    kept = {(labels[a], labels[b]) for a, b in reduced(graph).edges}
    assert ("train_stage1", "train_stage2") in kept
    assert ("prepare_manifest", "train_stage2") not in kept
    assert len({place for node, place in positions(graph).items() if node in labels}) == len(labels)


def test_the_error_map_is_black_without_error_and_brightest_at_its_ceiling() -> None:
    original = np.full((2, 2, 3), 100, dtype=np.uint8)
    other = original.copy()
    other[0, 0] += ERROR_CEILING
    drawn = error_map(original, other)
    assert drawn[1, 1].tolist() == error_colours()[0].tolist()
    assert drawn[0, 0].tolist() == error_colours()[255].tolist()


def test_clips_are_spread_from_the_first_to_the_last() -> None:
    assert spread(100, 3) == [0, 50, 99]
    assert spread(2, 12) == [0, 1]
    assert spread(0, 3) == []


def test_the_time_line_puts_stages_end_to_end_and_leaves_out_pauses() -> None:
    lines = [
        ("stage1", "start", 0, 100.0),
        ("stage1", "train", 1, 160.0),
        ("stage1", "resume", 1, 9000.0),
        ("stage1", "train", 2, 9060.0),
        ("stage2", "start", 0, 50_000.0),
        ("stage2", "train", 3, 50_180.0),
    ]
    logs = pd.DataFrame(lines, columns=["stage", "event", "step", "time"])
    line = lay_out({"demo": logs}, "time")
    assert line.label == "Running time, min"
    assert line.logs["demo"]["place"].tolist() == [0, 1, 1, 2, 2, 5]
    assert [(span.start, span.end, span.steps) for span in line.spans] == [(0, 2, 2), (2, 5, 3)]
    longer = logs.assign(step=[0, 4, 4, 7, 0, 3])
    by_step = lay_out({"demo": logs, "longer": longer}, "step")
    assert by_step.logs["demo"]["place"].tolist() == [0, 1, 1, 2, 7, 10]


def test_a_long_log_is_thinned_but_keeps_its_end_and_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_results(tmp_path, clips=2, frames=4)
    whole = load_results(parse_config(config), tmp_path).logs
    monkeypatch.setattr("video_vae.report.tables.LOG_BYTES", 4000)
    thinned = load_results(parse_config(config), tmp_path).logs
    counts = [logs[logs["stage"] == "stage1"]["event"].value_counts() for logs in (whole, thinned)]
    assert counts[1]["train"] < counts[0]["train"] / 3
    assert counts[1].drop("train").to_dict() == counts[0].drop("train").to_dict()
    assert thinned["step"].max() == whole["step"].max()


def test_experiments_are_set_side_by_side_by_paired_differences(built: tuple[Path, Path], page: str) -> None:
    results = load_results(parse_config(built_config()), built[1])
    assert setting_differences(results, "no_identity") == [("stages.stage1.identity_weight", "1.0", "0.0")]
    changed, base = (Row(experiment=name, stage="stage3", variant="rec") for name in ("no_identity", "demo"))
    found = paired_difference(results, changed, base, "psnr")
    assert found is not None
    section = page[page.index('id="experiments"') : page.index('id="standing"')]
    assert f"{number(found.low, signed=True)} to {number(found.high, signed=True)}" in section
    assert "less demo, 3 clips" in section


def test_the_clips_that_stand_out_are_embedded_first(tmp_path: Path) -> None:
    config = make_results(tmp_path, clips=3, frames=6)
    add_scored_clips(tmp_path, 40)
    table = pd.read_csv(tmp_path / "demo/stage3/metrics/clips.csv")
    table.loc[(table["clip_id"] == "more_0007") & (table["variant"] == "rec"), "lpips"] = 9.0
    table.to_csv(tmp_path / "demo/stage3/metrics/clips.csv", index=False)
    results = load_results(parse_config(config), tmp_path)
    scores = table[table["variant"] == "rec"].set_index("clip_id")["psnr"]
    assert chosen_clips(results, 3)[0] == scores.idxmin()
    chosen = chosen_clips(results, 12)
    assert len(chosen) == len(set(chosen)) == 12
    assert {"more_0007", scores.idxmin(), scores.idxmax()} <= set(chosen)


def test_pictures_that_were_deleted_are_told_with_the_command_that_makes_them_again(page: str, tmp_path: Path) -> None:
    assert " makes them again" not in page
    config = make_results(tmp_path / "results", clips=2, frames=6)
    shutil.rmtree(tmp_path / "results/demo/stage3/reconstruction_preview")
    target = "results/demo/stage3/reconstruction/shard_0.csv"
    page = build_report(config, tmp_path / "results", tmp_path / "page.html")
    assert f"<code>snakemake --configfile CONFIG.yaml -f {target}</code> makes them again" in page
    shutil.rmtree(tmp_path / "results/demo/stage3/reconstruction_rec")
    page = build_report(config, tmp_path / "results", tmp_path / "page.html")
    assert f"was found. <code>snakemake --configfile CONFIG.yaml -f {target}</code> makes them again" in page


def test_long_curves_are_averaged_without_losing_their_ends() -> None:
    steps = np.arange(100_000.0)
    middle, mean, low, high = binned(steps, steps)
    assert len(middle) == BINS
    assert middle[0] < 300
    assert middle[-1] > 99_700
    assert np.all((low <= mean) & (mean <= high))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (42, "42 s"), (725, "12 min 05 s"), (12_000, "3 h 20 min"), (7 * 86400, "7 d 0 h")],
)
def test_time_is_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(20_000, "20k"), (0.0001, "1e-4"), (0.05, "0.05"), (0, "0"), (-6e-5, "−6e-5"), (1_200_000, "1.2M")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert compact(value) == text


def test_clips_of_files_that_are_trained_on_too_are_not_held_out_by_source(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    assert "ot held out by source" not in built[0].read_text(encoding="utf-8")
    data = tmp_path / "demo" / "data"
    shutil.copytree(built[1] / "demo" / "data", data)
    shutil.copy(built[1] / "metrics.csv", tmp_path)
    tables = [pd.read_csv(data / f"{side}.csv") for side in ("train", "test")]
    tables[0].at[0, "source_id"] = tables[1]["source_id"][0]
    tables[0].to_csv(data / "train.csv", index=False)
    results = load_results(parse_config(built_config()), tmp_path)
    said = dict(head(results)["facts"])["Held-out clips"]
    assert said.endswith(", not held out by source: 1 of them is trained on too")
    path = tables[1]["path"][0]
    context = {"data": data_section(results)}
    assert f"<code>{path}</code>" in environment().get_template("data.html").render(context)
