"""A project folder on a cluster: `run` looks at it first, a job drives the workflow, jobs get what `run` loads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clips import write_video
from slurm.slurm_cluster import CPUS, Cluster
from video_vae.init_project import init_project
from workflow.workflow_material import copy_checkout

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
TARGET = "results/mine/data/train.csv"


def _project(parent: Path) -> Path:
    """Make a project with stand-ins for its jobs, which say what a site's modules set."""
    (parent / "clips").mkdir()
    write_video(parent / "clips" / "one.mp4", frames=20)
    checkout = copy_checkout(parent / "video-vae").folder
    main = checkout / "src/video_vae/__main__.py"
    shown = "import os, sys\nprint('loaded', os.environ.get('LOADED'), file=sys.stderr)\n"
    main.write_text(shown + main.read_text(encoding="utf-8"), encoding="utf-8")
    project = parent / "mine"
    site = {"partition": "gpu", "gpus": 8, "nodes": 1}
    init_project(project, [parent / "clips"], size="paper", slurm=True, site=site, checkout=checkout)
    (parent / "scratch").mkdir()
    (project / "results").symlink_to(parent / "scratch")  # as docs/cluster.md has it for scratch disks
    run = project / "run"
    text = run.read_text(encoding="utf-8")
    loaded = f"export LOADED=cuda PATH={Path(sys.executable).parent}:$PATH VIDEO_VAE_NOTIFY='echo \"$1\" > told'\n"
    run.write_text(text.replace("set -euo pipefail\n", f"set -euo pipefail\n{loaded}"), encoding="utf-8")
    return project


@pytest.mark.usefixtures("slurm")
def test_a_driver_job_runs_a_project_whose_profile_fits_the_cluster(tmp_path: Path) -> None:
    project = _project(tmp_path)
    profile = project / "profile/config.yaml"
    with Cluster(nodes=1) as cluster:
        done = subprocess.run(cluster.command("./run", folder=project), capture_output=True, text=True, check=False)
        assert done.returncode == 1 and not (project / ".snakemake").exists()
        assert f"cpus_per_task: 64 cores, and partition gpu has {CPUS} cores" in done.stderr
        assert "mem_mb: 256000 MB" in done.stderr and "partition gpu has 64000 MB" in done.stderr

        text = profile.read_text(encoding="utf-8")
        text = re.sub(r"(cpus_per_task|threads): \d+", r"\1: 2", re.sub(r"mem_mb: \d+", "mem_mb: 2000", text))
        profile.write_text(text.replace("checks: 20", "checks: 1").replace("wait: 60", "wait: 20"), encoding="utf-8")
        assert yaml.safe_load(text)["default-resources"]["slurm_partition"] == "gpu"
        driver = project / "driver.sbatch"
        driver.write_text(driver.read_text(encoding="utf-8").replace("--mem=8G", "--mem=2G"), encoding="utf-8")
        said = cluster.run("sbatch", "--wait", "driver.sbatch", TARGET, folder=project, check=False)
        log = "".join(path.read_text(encoding="utf-8") for path in project.glob("driver-*.log"))
        assert (project / TARGET).is_file(), said + log
        assert len(cluster.jobs("COMPLETED")) == 2, log
    assert (project / "results").is_symlink() and (tmp_path / "scratch/mine/data/train.csv").is_file()
    assert "results/mine/settings/prepare_manifest.json" in (project / TARGET).read_text(encoding="utf-8")
    assert (project / "logs/mine/prepare_manifest.log").read_text(encoding="utf-8").startswith("loaded cuda\n")
    assert (project / "told").read_text(encoding="utf-8") == "finished\n"
