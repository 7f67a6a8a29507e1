"""Ctrl-C while the workflow trains: everything is saved once, one line says so, and the same command ends the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from material import make_spatial, write_clips
from terminal import Terminal
from tiny_material import SETTINGS, copy_project
from training_material import MODEL_FILE

pytestmark = pytest.mark.timeout(900)
STAGE = {**SETTINGS["stages"]["stage1"], "steps": 100_000, "checkpoint_every": 100_000, "validate_every": 100_000}
ENOUGH = 12
"""Steps of a training that is finished in the end."""
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--max-threads", "1", "--configfile", "tiny.json"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with clips and a spatial VAE, and two runs whose first stages train side by side."""
    folder = tmp_path_factory.mktemp("interrupted") / "project"
    copy_project(folder)
    write_clips(folder / "clips", frames=12)
    make_spatial(folder / "spatial")
    return folder


def _settings(folder: Path, **stage: Any) -> None:
    given = {**SETTINGS, "spatial": {"pretrained": "spatial"}, "latents": {"cache": "off"}}
    given["stages"] = {**SETTINGS["stages"], "stage1": {**STAGE, **stage}}
    given["experiments"] = {"other": {"stages": {"stage1": {"kl_weight": 0.5}}}}
    (folder / "tiny.json").write_text(json.dumps(given), encoding="utf-8")


def _steps(folder: Path, run: str) -> list[int]:
    texts = [path.read_text() for path in folder.glob(f"results/{run}/state/stage1/*/log.jsonl")]
    return [
        int(step) for text in texts for step in re.findall(r'"step": (\d+), "time": [\d.]+, "event": "train"', text)
    ]


def _saved(folder: Path, run: str) -> list[int]:
    return sorted(int(path.name[5:]) for path in folder.glob(f"results/{run}/state/stage1/*/step-*"))


def _interrupted(folder: Path, how: str, runs: list[str]) -> tuple[list[str], dict[str, int]]:
    """Start the workflow, interrupt it while all runs train; return what was shown and each run's last step."""
    before = {run: max(_steps(folder, run), default=0) for run in runs}
    line = [*SNAKEMAKE, "--", *(f"results/{run}/stage1/model" for run in runs)]
    job = Terminal(line, folder)
    job.read_until(lambda: all(max(_steps(folder, run), default=0) > before[run] + 2 for run in runs), timeout=200)
    if how == "Ctrl-C":
        job.press()
    elif how == "closed":
        job.close()
    else:
        os.kill(job.pid, signal.SIGINT)
    shown = job.end()
    assert job.status == 1
    assert not list(folder.glob(".snakemake/locks/*"))
    for text in ("Error in rule", "Traceback", "returned non-zero", "did not complete"):
        assert text not in job.shown
    last = {run: max(_steps(folder, run)) for run in runs}
    for run in runs:
        assert _saved(folder, run)[-1] == last[run]
        said = (folder / "logs" / run / "train_stage1.log").read_text(encoding="utf-8").splitlines()
        assert said[-1] == f"stage1 stopped at step {last[run]}; the same command goes on"
        assert sum("stopped" in line for line in said) == 1
    return shown, last


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGINT to Snakemake alone"])
def test_the_last_line_says_where_it_stopped(project: Path, how: str) -> None:
    _settings(project)
    shown, last = _interrupted(project, how, ["tiny"])
    line = [sys.executable, "-m", "video_vae", "status", "--json", "--results", str(project / "results")]
    seen = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    states = {(stage["experiment"], stage["stage"]): stage["state"] for stage in seen["stages"]}
    assert seen["workflow"]["state"] == "stopped" and not seen["workflow"]["locked"]
    assert states["tiny", "stage1"] == "stopped" and states["tiny", "stage3"] == states["other", "stage1"] == "waiting"
    assert shown[-1] == f"stage1 stopped at step {last['tiny']}; the same command goes on"


@pytest.mark.slow
def test_jobs_side_by_side_stop_together_and_a_closed_terminal_does_as_well(project: Path) -> None:
    _settings(project)
    shown, last = _interrupted(project, "Ctrl-C", ["tiny", "other"])
    assert set(re.findall(r"train_stage1 \((\w+)\) stopped at step (\d+)", shown[-1])) == {
        (run, str(step)) for run, step in last.items()
    }
    assert shown[-1].endswith("; the same command goes on")
    _interrupted(project, "closed", ["tiny", "other"])


@pytest.mark.slow
def test_the_same_command_ends_with_the_same_weights(project: Path, tmp_path: Path) -> None:
    weights = []
    for name, times in (("stopped", 2), ("whole", 0)):
        folder = tmp_path / name
        copy_project(folder)
        for part in ("clips", "spatial"):
            (folder / part).symlink_to(project / part)
        _settings(folder, steps=ENOUGH)
        for _ in range(times):
            _interrupted(folder, "Ctrl-C", ["tiny"])
        job = Terminal([*SNAKEMAKE, "--", "results/tiny/stage1/model"], folder)
        job.end(timeout=200)
        assert job.status == 0, job.shown[-3000:]
        weights.append((folder / "results/tiny/stage1/model" / MODEL_FILE).read_bytes())
        log = (folder / "results/tiny/stage1/log.jsonl").read_text(encoding="utf-8")
        events = [json.loads(line) for line in log.splitlines()]
        assert [line["step"] for line in events if line["event"] == "train"] == list(range(1, ENOUGH + 1))
        assert [line["event"] for line in events].count("resume") == times
    assert weights[0] == weights[1]
