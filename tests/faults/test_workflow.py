"""The whole workflow: Snakemake is killed, started twice, and the same command ends with the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import Reference
from faults.fault_material import Job, Ledger, contents, leftovers, wait_for, wait_until_gone
from material import make_spatial, write_clips
from tiny_material import SETTINGS, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TINY: dict[str, Any] = {
    **{key: value for key, value in SETTINGS.items() if key != "experiments"},
    "spatial": {"pretrained": "spatial"},
    "latents": {"shards": 1},
    "evaluation": {"flow": "dis", "bootstrap": 20, "baselines": False, "stages": ["stage3"]},
}
LOGS = [f"tiny/{name}.log" for name in ("prepare_manifest", "train_stage1", "train_stage3", "stage3/evaluate")]
LOGS[1:1] = ["latents/*/shard_0.log"]
LOGS[-1:-1] = ["tiny/stage3/reconstruct*.log"]
"""Logs of the long steps: each is there when its step begins."""
LINE = [sys.executable, "-m", "snakemake", "--cores", "2", "--max-threads", "1"]
LINE += ["--configfile", "tiny.json", "--", "results/metrics.csv"]


def checkout(folder: Path, resources: Path) -> Path:
    """Copy the workflow into a folder with clips of its own; what is fetched is shared."""
    folder.mkdir()
    copy_project(folder)
    write_clips(folder / "clips", frames=12)
    make_spatial(folder / "spatial")
    resources.mkdir(exist_ok=True)
    (folder / "resources").symlink_to(resources)
    (folder / "tiny.json").write_text(json.dumps(TINY), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = checkout(tmp_path_factory.mktemp("workflow") / "whole", tmp_path_factory.mktemp("resources") / "all")
    assert Job(LINE, folder.parent / "tmp", cwd=folder).end(timeout=900)[0] == 0  # fetches and converts, once
    shutil.rmtree(folder / "results")
    began = time.monotonic()
    status, told = Job(LINE, folder.parent / "tmp", cwd=folder).end(timeout=900)
    assert status == 0, told[-3000:]
    return Reference(folder, time.monotonic() - began)


def assert_finished(folder: Path, undisturbed: Reference) -> None:
    assert contents(folder / "results") == contents(undisturbed.folder / "results")
    assert not leftovers(folder / "results")


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_snakemake_is_ended_and_started_again(
    undisturbed: Reference, tmp_path: Path, ledger: Ledger, name: str, number: int
) -> None:
    folder = checkout(tmp_path / "run", (undisturbed.folder / "resources").resolve())
    chance = ledger.random("snakemake", name, number)
    with ledger.trial(f"{name} of Snakemake", undisturbed.seconds):
        job = Job(LINE, tmp_path / "tmp", cwd=folder)
        time.sleep(chance.uniform(0.1, 0.9) * undisturbed.seconds)
        os.kill(job.process.pid, signal.Signals[name])
        wait_until_gone(job.process.pid)  # its jobs end by themselves
        job.end()
        if name == "SIGKILL":  # its lock stays, and is Snakemake's to remove
            assert Job([*LINE[:-2], "--unlock"], tmp_path / "tmp", cwd=folder).end(timeout=200)[0] == 0
        status, told = Job(LINE, tmp_path / "tmp", cwd=folder).end(timeout=900)
        assert status == 0, told[-3000:]
        assert_finished(folder, undisturbed)


def test_ctrl_c_in_each_of_the_long_steps(undisturbed: Reference, tmp_path: Path, ledger: Ledger) -> None:
    folder = checkout(tmp_path / "run", (undisturbed.folder / "resources").resolve())
    chance = ledger.random("each step")
    for step in LOGS:
        with ledger.trial("Ctrl-C in each long step"):
            job = Job(LINE, tmp_path / "tmp", cwd=folder)
            wait_for(folder, f"logs/{step}", job)
            time.sleep(chance.uniform(0.1, 2.0))
            os.killpg(job.process.pid, signal.SIGINT)  # as the terminal does: all of its foreground group
            status, told = job.end(timeout=200)
            assert status == 1 and told.rstrip().endswith("the same command goes on"), told[-3000:]
            assert "Error in rule" not in told and not list(folder.glob(".snakemake/locks/*"))
    status, told = Job(LINE, tmp_path / "tmp", cwd=folder).end(timeout=900)
    assert status == 0, told[-3000:]
    assert_finished(folder, undisturbed)


def test_two_runs_in_one_folder(undisturbed: Reference, tmp_path: Path, ledger: Ledger) -> None:
    folder = checkout(tmp_path / "run", (undisturbed.folder / "resources").resolve())
    with ledger.trial("two workflow runs in one folder", undisturbed.seconds):
        first = Job(LINE, tmp_path / "tmp", cwd=folder)
        until = time.monotonic() + 120
        while not list(folder.glob("results/tiny/data/train.csv")) and time.monotonic() < until:
            time.sleep(0.1)
        status, told = Job(LINE, tmp_path / "tmp", cwd=folder).end(timeout=200)
        assert status != 0 and "Directory cannot be locked" in told, told[-3000:]
        status, told = first.end(timeout=900)
        assert status == 0, told[-3000:]
        assert_finished(folder, undisturbed)
