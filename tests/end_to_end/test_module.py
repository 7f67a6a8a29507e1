"""The whole way as another repository takes it by github(...): no checkout beside it, no package installed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from material import write_clips
from tiny_material import SETTINGS, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COMMIT = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message", "Work"]
HOST = """\
configfile: "config/config.yaml"

module vae:
    snakefile: github("someone/video-vae", path="workflow/Snakefile", tag="v1")
    prefix: "vae"
    config: config

use rule * from vae as vae_*
"""


def test_a_module_out_of_git_goes_all_the_way(tmp_path: Path) -> None:
    forge = tmp_path / "forge" / "someone" / "video-vae"
    copy_project(forge)
    for command in (["git", "init", "--quiet"], ["git", "add", "."], COMMIT, ["git", "tag", "v1"]):
        subprocess.run(command, cwd=forge, check=True)
    host = tmp_path / "user's host"
    for name, text in (("workflow/Snakefile", HOST), ("config/config.yaml", json.dumps(SETTINGS))):
        (host / name).parent.mkdir(parents=True)
        (host / name).write_text(text, encoding="utf-8")
    write_clips(host / "clips", frames=12)
    other = tmp_path / "other" / "video_vae"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('another copy')\n", encoding="utf-8")
    fetched = os.environ.get("VIDEO_VAE_CACHE") or str(Path("~/.cache/video-vae").expanduser())
    environment = {
        **os.environ,
        "VIDEO_VAE_CACHE": fetched,
        **{"PYTHONPATH": str(other.parent), "XDG_CACHE_HOME": str(tmp_path / "cache"), "GITHUB_TOKEN": ""},
        **{"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": "https://github.com/"},
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/forge/.insteadOf",
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--max-threads", "1"]
    result = subprocess.run(command, cwd=host, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]
    with (host / "vae/results/metrics.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["experiment"] for row in csv.DictReader(stream)} == {"tiny", "no_kl"}
    assert (host / "vae/reports/report.html").is_file() and (host / "vae/reports/explore.html").is_file()
    record = json.loads((host / "vae/results/tiny/stage1/run.json").read_text(encoding="utf-8"))
    head = subprocess.run(["git", "rev-parse", "v1"], cwd=forge, capture_output=True, text=True, check=True)
    assert record["code"]["commit"] == head.stdout.strip()
    assert [file["path"] for file in record["config_files"]] == ["config/config.yaml"]
