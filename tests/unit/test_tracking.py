"""Figures go to Weights & Biases where VIDEO_VAE_WANDB asks for it, and nothing of it is imported otherwise."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from training_material import cached, command, environment, log_lines, options, settings

STAND_IN = """\
import json, os, pathlib

def note(**what):
    with open(os.environ["NOTED"], "a") as stream:
        stream.write(json.dumps(what) + "\\n")

note(imported=True)

class Run:
    def log(self, figures, step):
        note(step=step, figures=figures)
        if os.environ.get("BROKEN") == "log":
            raise ConnectionError("the server went away")

    def finish(self):
        note(finished=True)

def init(**given):
    note(init=given, mode=os.environ["WANDB_MODE"], folder=pathlib.Path(given["dir"]).is_dir())
    return Run()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """Variables under which `wandb` is a module that notes how it is called."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wandb.py").write_text(STAND_IN, encoding="utf-8")
    return {"NOTED": str(tmp_path / "noted"), "PYTHONPATH": str(tmp_path / "site")}


def _train(data: Path, tmp_path: Path, variables: dict[str, str], *extra: str) -> subprocess.CompletedProcess[str]:
    given = options(data, tmp_path / "out", *cached(data), *extra, config=settings(steps=3))
    clean = {name: value for name, value in environment().items() if "WANDB" not in name}
    line = command(given)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=400, env=clean | variables)


def _noted(tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "noted"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_training_that_goes_on_is_one_run_offline_with_the_figures_of_the_log(
    data: Path, tmp_path: Path, stand_in: dict[str, str]
) -> None:
    asked = {**stand_in, "VIDEO_VAE_WANDB": "videos"}
    stopped = _train(data, tmp_path, asked, "--max-hours", "0")
    assert stopped.returncode not in (0, 1, 2), stopped.stderr
    done = _train(data, tmp_path, asked)
    assert done.returncode == 0, done.stderr
    noted = _noted(tmp_path)
    starts = [line for line in noted if "init" in line]
    assert len(starts) == 2 and len({line["init"]["id"] for line in starts}) == 1
    for line in starts:
        assert line["mode"] == "offline" and line["folder"] and line["init"]["resume"] == "allow"
        assert line["init"]["project"] == "videos" and line["init"]["dir"] == str(tmp_path / "out")
        assert line["init"]["config"]["learning_rate"] == 1e-3
    assert [line for line in noted if "finished" in line] == [{"finished": True}] * 2
    logged = {line["step"]: line["figures"] for line in noted if "train/loss" in line.get("figures", {})}
    written = log_lines(tmp_path / "out" / "log.jsonl", "train")
    assert {line["step"] for line in written} == logged.keys()
    assert all(logged[line["step"]]["train/loss"] == pytest.approx(line["loss"]) for line in written)
    assert any("valid/psnr" in line.get("figures", {}) for line in noted)


def test_nothing_is_imported_where_nobody_asks(data: Path, tmp_path: Path, stand_in: dict[str, str]) -> None:
    assert _train(data, tmp_path, stand_in).returncode == 0
    assert not _noted(tmp_path)


def test_what_goes_wrong_there_is_said_once_and_the_training_ends_well(
    data: Path, tmp_path: Path, stand_in: dict[str, str]
) -> None:
    done = _train(data, tmp_path, {**stand_in, "VIDEO_VAE_WANDB": "videos", "BROKEN": "log"})
    assert done.returncode == 0 and (tmp_path / "out" / "run.json").exists()
    said = "Weights & Biases: the server went away; the training goes on without it"
    assert done.stderr.count(said) == 1


def test_the_package_that_is_missing_is_named_before_the_training(data: Path, tmp_path: Path) -> None:
    done = _train(data, tmp_path, {"VIDEO_VAE_WANDB": "videos"})
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.splitlines()[-1].endswith(
        "VIDEO_VAE_WANDB=videos needs the package wandb; pip install wandb, or unset VIDEO_VAE_WANDB"
    )
