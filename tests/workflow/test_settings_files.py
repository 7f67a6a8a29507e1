"""Jobs take their settings from files, however long: what a job reads reruns it, and its command can be copied."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from video_vae.config import load_config
from video_vae.config.files import is_json_text
from workflow.workflow_material import ROOT, Checkout, copy_checkout, jobs

CONFIG = ROOT / "config/demo.yaml"
MANY = 3000
MANIFEST = "results/mine/data/manifest.csv"


@pytest.fixture
def long_list(tmp_path: Path) -> tuple[Checkout, list[str]]:
    """A checkout and sources whose names have 100 characters each."""
    checkout = copy_checkout(tmp_path / "checkout")
    sources = [f"clips/{number:090}.mp4" for number in range(MANY)]
    (checkout.folder / "clips").mkdir()
    for source in sources:
        (checkout.folder / source).touch()
    assert len(sources[0]) == 100
    return checkout, sources


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.parametrize("by", ["configfile", "profile"])
def test_a_long_list_of_sources_is_planned_and_reaches_the_job(long_list: tuple[Checkout, list[str]], by: str) -> None:
    """A profile gives what `--config` gives, without the limit of a command line."""
    checkout, sources = long_list
    (checkout.folder / by).mkdir()
    values = {"experiment": "mine", "data": {"sources": sources, "packages": []}}
    given = {"config": [f"{key}={json.dumps(value)}" for key, value in values.items()], "cores": 1}
    written = values if by == "configfile" else given
    (checkout.folder / by / "config.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    how = ["--configfile", "config/demo.yaml", f"{by}/config.yaml"] if by == "configfile" else ["--profile", by]
    before = _files(checkout.folder)
    planned = checkout.snakemake("-n", MANIFEST, *how)
    assert jobs(planned.stdout + planned.stderr) == {"write_settings": 1, "prepare_manifest": 1}
    assert {path.parent.name for path in _files(checkout.folder) - before} <= {"iocache", "log", "video-vae"}
    result = checkout.snakemake(MANIFEST, *how)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    (settings,) = re.findall(r"manifest (\S+) ", (checkout.folder / MANIFEST).read_text(encoding="utf-8"))
    assert load_config(checkout.folder / settings).data.sources == tuple(sources)
    kept = list(checkout.folder.glob(".snakemake/video-vae/given-*.json"))
    assert [json.loads(path.read_text(encoding="utf-8"))["data"]["sources"] for path in kept] == [sources][: len(kept)]
    assert len(kept) == (by == "profile")


def test_a_jobs_command_is_short_and_can_be_run_by_hand(own_copy: Checkout) -> None:
    planned = own_copy.snakemake("-n", "-p", "-R", "train_stage1", "--configfile", "config/demo.yaml")
    commands = re.findall(r"^Shell command: (.*)$", planned.stdout + planned.stderr, re.MULTILINE)
    (training,) = [command for command in commands if "--stage stage1" in command]
    assert "-m video_vae.train results/demo/settings/train_stage1.json --stage stage1" in training
    assert not [word for command in commands for word in shlex.split(command) if is_json_text(word)]
    made = own_copy.folder / "results/demo/stage1/run.json"
    made.unlink()
    subprocess.run(["bash", "-c", training], cwd=own_copy.folder, check=True, capture_output=True)
    assert made.is_file()


def test_lost_settings_rerun_nothing(own_copy: Checkout) -> None:
    for settings in own_copy.folder.glob("results/**/settings/*"):
        settings.unlink()
    shutil.rmtree(own_copy.folder / ".snakemake/video-vae")
    assert own_copy.plan() == {}
    other = {"write_settings": 1, "draw_rulegraph": 1, "make_report": 1, "all": 1}
    assert own_copy.plan(report={"title": "Other"}) == other


def test_settings_of_no_run_are_not_made(fresh: Checkout) -> None:
    result = fresh.snakemake("-n", "--configfile", "config/demo.yaml", "--", "results/demo/settings/other.json")
    assert result.returncode == 1 and "MissingRuleException" in result.stdout + result.stderr


def test_settings_are_written_without_starting_a_container(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path)
    (checkout.folder / "envs/video-vae.sif").touch()
    program = checkout.folder / "bin/apptainer"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo apptainer version 1.3.0\n', encoding="utf-8")
    program.chmod(0o755)
    target = "results/demo/settings/train_stage1.json"
    path = f"{program.parent}:{os.environ['PATH']}"
    result = checkout.snakemake(target, "--configfile", "config/demo.yaml", "--sdm", "apptainer", PATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (
        load_config(checkout.folder / target).stages.of("stage1").steps == load_config(CONFIG).stages.of("stage1").steps
    )
