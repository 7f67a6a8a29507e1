"""`video-vae status` has a row for each stage that is planned, and leaves the terminal as it found it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from terminal import Terminal
from video_vae.config import Config, parse_config, slices
from video_vae.config.runs import resolve
from video_vae.config.slices import data_slice, stage_slice
from video_vae.status.planned import write_plan
from video_vae.status.status import FIRST_SCREEN, OTHER_SCREEN, Look, as_json, as_text, look

PLANNED: dict[str, Any] = {
    "experiment": "base",
    "data": {"sources": ["clips"]},
    "spatial": {"pretrained": "spatial"},
    "stages": {name: {"steps": 100, "epochs": None} for name in ("stage1", "stage2", "stage3")},
    "experiments": {"strong": {"stages": {"stage2": {"kl_weight": 0.5}}}},
    "evaluation": {"stages": ["stage2"]},
}
RUNNING = """\
  Host: another machine
Job stats:
job             count
------------  -------
{planned}
total               4

"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose workflow has trained the first stage; its config is in config.yaml."""
    monkeypatch.chdir(tmp_path)
    _configure(PLANNED)
    config = parse_config(PLANNED)
    write_plan(Path("results"), config, ["config.yaml"], {})
    run = resolve(config)["base"]
    _record(Path("results/base/data"), run, data_slice(run))
    _record(Path("results/base/stage1"), run, stage_slice(run, "stage1"))
    return tmp_path


def _configure(settings: dict[str, Any]) -> None:
    Path("config.yaml").write_text(json.dumps(settings), encoding="utf-8")


def _record(folder: Path, run: Config, settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    values = {"command": "train", "code": {}, "fingerprint": "0123456789abcdef", "steps": 100, "trained_seconds": 50.0}
    config = parse_config(json.loads(slices.as_text(settings))).model_dump(mode="json")
    (folder / "run.json").write_text(json.dumps({**values, "config": config}), encoding="utf-8")
    (folder / "log.jsonl").write_text('{"step": 100, "time": 1.0, "event": "end"}\n', encoding="utf-8")


def _states(seen: Look) -> dict[str, str]:
    return {f"{stage.experiment} {stage.stage}": stage.state for stage in seen.stages}


def test_every_planned_stage_has_a_row_and_shared_ones_a_line(project: Path) -> None:
    seen = look(Path("results"))
    assert _states(seen) == {"base stage1": "done", "base stage2": "waiting", "strong stage2": "waiting"}
    text = "\n".join(as_text(seen, Path("results")))
    assert "strong takes stage1 of base" in text and "0/100 (0 %)" in text
    assert _states(look(project / "results")) == _states(seen)


def test_what_is_not_as_the_config_says_now_is_outdated_and_so_is_what_was_made_of_it(project: Path) -> None:
    run = resolve(parse_config(PLANNED))["base"]
    _record(Path("results/base/stage2"), run, stage_slice(run, "stage2"))
    assert _states(look(Path("results")))["base stage2"] == "done"
    stages = PLANNED["stages"]
    _configure({**PLANNED, "stages": {**stages, "stage1": {**stages["stage1"], "learning_rate": 0.5}}})
    seen = look(Path("results"))
    assert _states(seen) == {"base stage1": "outdated", "base stage2": "outdated", "strong stage2": "waiting"}
    # 50 s for each hundred steps: of both stages there, and of the one that waits
    assert "trainings left, one after another: about 2 min 30 s" in "\n".join(as_text(seen, Path("results")))


def test_while_it_runs_the_config_that_it_started_with_counts(project: Path) -> None:
    _log("train_stage2        2")
    _configure({**PLANNED, "stages": {}})
    assert _states(look(Path("results")))["base stage1"] == "done"


def test_a_stage_that_is_trained_again_for_new_clips_is_outdated_while_it_waits(project: Path) -> None:
    _log("train_stage1        1\ntrain_stage2        2")
    assert _states(look(Path("results")))["base stage1"] == "outdated"


def test_a_training_that_loads_its_libraries_runs_and_its_command_is_no_news(project: Path) -> None:
    _log("train_stage2        2")
    started = "rule train_stage2:\n    log: logs/base/train_stage2.log\n    jobid: 3\n    wildcards: experiment=base\n"
    with Path(".snakemake/log/2026-11-24T140805.7.snakemake.log").open("a", encoding="utf-8") as log:
        log.write(f"{started}\n")
    says = Path("logs/base/train_stage2.log")
    says.parent.mkdir(parents=True)
    says.write_text("python -m video_vae.train settings.json --stage stage2\n", encoding="utf-8")
    seen = look(Path("results"))
    assert _states(seen) == {"base stage1": "done", "base stage2": "running", "strong stage2": "waiting"}
    assert "  train_stage2 (base): starting" in list(as_text(seen, Path("results")))


def test_a_plan_is_left_alone_where_another_run_has_the_folder(project: Path) -> None:
    _log("train_stage2        2")
    before = look(Path("results"))
    write_plan(Path("results"), parse_config({**PLANNED, "experiment": "later"}), [], {})
    assert look(Path("results")) == before


def test_a_model_that_was_deleted_is_told_with_what_makes_it_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = project / "results/base/stage2/metrics/summary.json"
    scored.parent.mkdir(parents=True)
    scored.write_text("{}", encoding="utf-8")
    seen = look(Path("results"))
    lines = [line for line in as_text(seen, Path("results")) if line.startswith("results/base/stage2/model is gone")]
    (said,) = lines
    assert "`snakemake -f results/base/stage2/model` makes it again, and the next run what follows from it" in said
    assert said in json.loads(as_json(seen))["lost"]
    (project / "results/base/stage2/model").mkdir()
    assert "stage2/model" not in " ".join(look(Path("results")).lost)
    (project / "results/base/stage2/model").rmdir()
    _log("train_stage2        2")  # which makes it
    assert look(Path("results")).lost == []
    monkeypatch.chdir("results")  # where the command would do nothing
    assert look(project / "results").lost == []


def _log(planned: str) -> None:
    """Let a workflow run on another machine."""
    log = Path(".snakemake/log/2026-11-24T140805.7.snakemake.log")
    log.parent.mkdir()
    log.write_text(RUNNING.format(planned=planned), encoding="utf-8")
    Path(".snakemake/locks").mkdir()
    Path(".snakemake/locks/0.input.lock").touch()


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_watching_takes_the_other_screen_and_gives_the_terminal_back(project: Path, how: str) -> None:
    line = [sys.executable, "-m", "video_vae", "status", "--watch", "--interval", "0.2"]
    job = Terminal(line, project)
    job.read_until(lambda: job.shown.count("base  ") > 4, timeout=60)
    if how == "Ctrl-C":
        job.press()
    else:
        os.kill(job.pid, signal.SIGTERM)
    job.end()
    assert job.status == (0 if how == "Ctrl-C" else 143)
    assert job.shown.startswith(OTHER_SCREEN) and job.shown.count(OTHER_SCREEN) == job.shown.count(FIRST_SCREEN) == 1
    assert "base    stage1  done" in job.shown.partition(FIRST_SCREEN)[2]
    assert "\x1b[3J" not in job.shown and "Traceback" not in job.shown  # the first would erase what was there before
