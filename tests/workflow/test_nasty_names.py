"""Names and values reach the jobs letter by letter, never a shell; wrong values stop a run before its first job."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clips import write_video
from workflow.workflow_material import ROOT, Checkout, copy_checkout

NASTY = 'it\'s; touch harmed $(touch harmed) `touch harmed` & "q" *'
BRACED = f"{NASTY} {{0}} {{config}}"
"""A name that a shell, or Snakemake's own formatting, would make something else of."""
TOKEN = "hf_notforanybodyelse"  # noqa: S105 (made up)
CLIPS = (f"{BRACED}.mp4", "-rf.mp4", "two\nlines.mp4", "a,b.mp4", "ÄÖ 北京.mp4", "%s\\n.mp4", "~.mp4")


def _harmed(folder: Path) -> list[Path]:
    return list(folder.rglob("*harmed"))


def test_clips_are_listed_whatever_they_and_their_folders_are_called(tmp_path: Path) -> None:
    here = tmp_path / f"run {NASTY}"
    clips = tmp_path / f"clips {NASTY}"
    here.mkdir()
    clips.mkdir()
    for seed, name in enumerate(CLIPS):
        write_video(tmp_path / "clip.mp4", 20, size=(64, 64), seed=seed).rename(clips / name)
    settings = {"experiment": "mine", "data": {"sources": [str(clips)], "min_size": 32}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--snakefile", str(ROOT / "workflow/Snakefile")]
    command += ["--directory", str(here), "--configfile", str(tmp_path / "mine.yaml")]
    command += ["--", "results/mine/data/manifest.csv"]
    environment = {**os.environ, "HF_TOKEN": TOKEN, "https_proxy": f"http://me:{TOKEN}@localhost:9"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    written = [path.read_bytes() for path in here.rglob("*") if path.is_file()]
    assert len(written) > 4 and not any(TOKEN.encode() in content for content in written)
    assert TOKEN not in result.stdout + result.stderr
    with (here / "results/mine/data/manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {Path(row["path"]).name for row in rows} == set(CLIPS)
    assert all(row["clip_id"].isascii() and row["clip_id"].replace("-", "a").isalnum() for row in rows)
    assert not _harmed(tmp_path)


def test_paths_in_the_settings_arrive_as_they_are(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / f"run {NASTY}")
    spatial = tmp_path / f"vae {NASTY}"
    shutil.copytree(checkout.folder / "workflow/weights/spatial_vae", spatial)
    weights = str(tmp_path / f"flow {NASTY}")
    Path(weights).touch()
    settings = {
        "experiment": "mine",
        "data": {"sources": [str(spatial)]},
        "spatial": {"pretrained": str(spatial)},
        "evaluation": {"flow_weights": weights},
        "report": {"title": NASTY, "question": NASTY},
    }
    name = f"{BRACED}.yaml"
    (checkout.folder / name).write_text(yaml.safe_dump(settings), encoding="utf-8")
    result = checkout.snakemake("--configfile", name, "--", "results/mine/baselines/metrics/summary.json")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = checkout.folder / "results/mine/baselines"
    assert f"--spatial {spatial} --data-path" in (folder / "reconstruction/shard_0.csv").read_text(encoding="utf-8")
    assert f"--flow-weights {weights} --" in (folder / "metrics/summary.json").read_text(encoding="utf-8")
    assert not _harmed(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=.nan", "config: seed: Input should be a valid integer"),
        ("stages={stage1: {learning_rate: 1e999}}", "config: stages.stage1.learning_rate: Input should be"),
        ("data={sources: [https://me:secret@host/a.mp4]}", "config: data.sources.0: an address; download it"),
        ("datta={min_frames: 3}", "config: unknown key datta; did you mean data?"),
    ],
)
def test_a_wrong_value_on_the_command_line_names_its_key(fresh: Checkout, setting: str, message: str) -> None:
    result = fresh.snakemake("-n", "--configfile", "config/demo.yaml", "--config", setting)
    output = result.stdout + result.stderr
    assert result.returncode == 1 and "Traceback" not in output
    assert [message in line for line in output.splitlines()].count(True) == 1, output
    assert "secret" not in output


def test_a_key_given_twice_in_a_file_is_refused(fresh: Checkout) -> None:
    path = fresh.folder / "twice.yaml"
    path.write_text("experiment: one\nseed: 1\nseed: 2\n", encoding="utf-8")
    result = fresh.snakemake("-n", "--configfile", "twice.yaml")
    assert result.returncode == 1 and "the key 'seed' is given twice" in result.stdout + result.stderr
    assert os.path.relpath(path, fresh.folder) in result.stdout + result.stderr
