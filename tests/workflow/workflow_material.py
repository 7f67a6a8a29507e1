"""Temporary checkouts with the real workflow, configs and settings, and stand-ins for the jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENTRIES = ("__main__.py", "launch.py", "evaluate.py")


class Checkout:
    """A copy of the workflow to run Snakemake in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def snakemake(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments]
        environment = {**os.environ, **variables}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=280
        )

    def plan(self, *arguments: str, **settings: Any) -> dict[str, int]:
        """Dry-run the demo with some settings changed; return the number of planned jobs a rule."""
        changed = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        config = ["--config", *changed] if changed else []
        result = self.snakemake("-n", *arguments, "--configfile", "config/demo.yaml", *config)
        assert result.returncode == 0, result.stdout + result.stderr
        return jobs(result.stdout + result.stderr)


def jobs(output: str) -> dict[str, int]:
    """Read the table of planned jobs in a dry run's output."""
    if "Nothing to be done" in output:
        return {}
    table = output.split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


def copy_checkout(folder: Path) -> Checkout:
    """Copy the workflow, with stand-ins for its jobs, into a folder."""
    for name in ("workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "src" / "video_vae"
    shutil.copytree(ROOT / "src" / "video_vae", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ENTRIES:
        shutil.copy(ROOT / "tests" / "workflow" / "stub.py", package / name)
    for name in (".gitattributes", ".git_archival.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "slurm").symlink_to("workflow/profiles/slurm")
    spatial = folder / "workflow" / "weights" / "spatial_vae"
    spatial.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (spatial / name).write_text("stand-in", encoding="utf-8")
    (folder / "config" / "demo_clips.csv").write_text("path\n", encoding="utf-8")
    # One run, so that the planned jobs are those of one run; tests name further ones where they are about them.
    demo = folder / "config" / "demo.yaml"
    blocks = demo.read_text(encoding="utf-8").split("\n\n")
    kept = [block for block in blocks if not re.search("^experiments:", block, re.MULTILINE)]
    assert len(kept) == len(blocks) - 1
    demo.write_text("\n\n".join(kept), encoding="utf-8")
    return Checkout(folder)
