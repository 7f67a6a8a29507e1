"""Status and report show a discriminator's figures where a stage trains against one, and only there."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report_material import make_results
from video_vae.config import parse_config
from video_vae.report.sections import FigureWriter
from video_vae.report.tables import Results, load_results
from video_vae.report.timeline import lay_out
from video_vae.report.training_figures import ADVERSARIAL, panels_with_data, training_curves
from video_vae.report.training_view import stage_rows, training_section
from video_vae.status.stages import read_stages
from video_vae.status.status import Look, as_text

COLUMNS = [panel.column for panel in ADVERSARIAL]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Make results whose third stage trains against a discriminator from step 6 on; their folder and config."""
    root = tmp_path_factory.mktemp("results")
    config = deepcopy(make_results(root, clips=2, frames=4))
    config["stages"]["stage3"] |= {"discriminator": {"weight": 0.25, "start_step": 5}}
    log = root / "demo" / "stage3" / "log.jsonl"
    lines = []
    for text in log.read_text(encoding="utf-8").splitlines():
        lines.append(text)
        line: dict[str, Any] = json.loads(text) if text.endswith("}") else {"event": ""}
        if line["event"] == "train" and line["step"] > 5:
            figures = {"d_loss": 0.5, "g_loss": -0.1, "adaptive_weight": 3.0, "logits_real": 0.2, "logits_fake": -0.2}
            lines.append(json.dumps(line | {"event": "discriminator", "loss": 1e9, **figures}))
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root, config


def results(made: tuple[Path, dict[str, Any]]) -> Results:
    return load_results(parse_config(made[1]), made[0])


def test_the_report_has_its_curves_apart_and_says_how_it_weighs(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    found = results(made)
    rows = {row["stage"]: row["losses"] for row in stage_rows(found)}
    assert rows["Stage 3"].endswith(", 0.25 × adversarial from step 6 on") and "adversarial" not in rows["Stage 1"]
    panels = panels_with_data(found.logs, ADVERSARIAL)
    assert [panel.column for panel in panels] == COLUMNS
    figure = training_curves(lay_out({"demo": found.logs}, "time"), panels)
    drawn = [[np.asarray(line.get_ydata()) for line in axes.lines] for axes in figure.axes]
    assert [{*next(line for line in lines if len(line) > 2).tolist()} for lines in drawn] == [
        {0.5},
        {-0.1},
        {0.2},
        {-0.2},
        {3.0},
    ]
    assert training_section(found, FigureWriter(tmp_path))["time_line"]
    assert found.logs.loc[found.logs["event"] == "train", "loss"].max() < 1e9


def test_a_log_without_one_has_no_such_curves(tmp_path: Path) -> None:
    found = load_results(parse_config(make_results(tmp_path, clips=2, frames=4)), tmp_path)
    assert panels_with_data(found.logs, ADVERSARIAL) == []


def test_a_long_log_keeps_the_lines_of_a_step_together(
    made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = results(made).logs
    size = (made[0] / "demo" / "stage3" / "log.jsonl").stat().st_size
    monkeypatch.setattr("video_vae.report.tables.LOG_BYTES", size - 1)  # every second one
    logs = results(made).logs
    steps = {
        event: [set(table[(table["stage"] == "stage3") & (table["event"] == event)]["step"]) for table in (whole, logs)]
        for event in ("train", "discriminator")
    }
    assert steps["discriminator"][1] == {step for step in steps["train"][1] if step > 5}
    assert 0.4 < len(steps["train"][1]) / len(steps["train"][0]) < 0.6


def test_the_status_tells_them_of_a_stage_that_runs(made: tuple[Path, dict[str, Any]]) -> None:
    stages = {stage.stage: stage for stage in read_stages(made[0])}
    assert stages["stage1"].discriminator is None
    assert stages["stage3"].discriminator == {"d_loss": 0.5, "logits_real": 0.2, "logits_fake": -0.2}
    line = "discriminator in stage3 of demo: d_loss 0.5, logits_real 0.2, logits_fake -0.2"
    for state in ("done", "running"):
        stages["stage3"].state = state
        text = list(as_text(Look(stages=[*stages.values()]), made[0]))
        assert (line in text) == (state == "running")
