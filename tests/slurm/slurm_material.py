"""A checkout as a site would set it up, with a workflow smaller than the demo, and Snakemake in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKL

from material import write_clips
from slurm.slurm_cluster import Cluster
from tiny_material import SETTINGS, copy_project

TARGETS = ("results/metrics.csv", "reports/report.html")
STAGES = ("train_stage1", "train_stage2", "train_stage3")
RANKS = {"train_stage1": 2, "train_stage2": 2, "train_stage3": 4}
"""World size of each stage; the third one's are two ranks on each of two nodes."""
TIMEOUT_SECONDS = 1500
SECONDS: dict[str, float] = {}
"""How long each scenario took."""


def settings() -> dict[str, Any]:
    """Return settings of one run whose stages take long enough to be interrupted, and no longer."""
    values = deepcopy(SETTINGS)
    del values["experiments"]
    values["spatial"] = {"pretrained": "spatial"}
    values["reconstruction"]["shards"] = 2
    for stage in values["stages"].values():
        stage |= {"steps": 120, "global_batch": 4, "micro_batch": 1, "validate_every": 120, "checkpoint_every": 10}
    values["stages"]["stage3"] |= {"steps": 40, "validate_every": 40, "perceptual_weight": 0.0}
    return values


def make_checkout(folder: Path) -> None:
    """Write a checkout whose `config/config.yaml`, the literal command's, holds the settings; nothing has run in it."""
    copy_project(folder)
    write_clips(folder / "clips", frames=12)
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1}
    AutoencoderKL(**sizes, **blocks).save_pretrained(folder / "spatial")
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings()), encoding="utf-8")
    set_site(folder)


def set_site(
    folder: Path, stage: dict[str, Any] | None = None, defaults: dict[str, Any] | None = None, **keys: Any
) -> None:
    """Edit the SLURM profile for the test cluster: fewer ranks, cores and nodes, and whatever else is given.

    `stage` are resources of every stage, `defaults` of every rule, `keys` top-level keys, with underscores; None takes
    one out.
    """
    path = folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile["set-threads"] = {name: 2 if name in STAGES else 1 for name in profile["set-threads"]}
    for name, resources in profile["set-resources"].items():
        resources |= {"cpus_per_task": profile["set-threads"].get(name, 1), "mem_mb": 4000}
    for name in STAGES:
        profile["set-resources"][name] |= {"ranks": 2, "gpu": 2, **(stage or {})}
    third = profile["set-resources"]["train_stage3"]
    third |= {"nodes": 2, "tasks": 2, "gres": "gpu:2", "gpu": None}
    profile["default-resources"] |= defaults or {}
    profile["set-resources"] = {name: _without_none(values) for name, values in profile["set-resources"].items()}
    # Jobs of seconds are to be seen in seconds.
    profile |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 20}
    profile |= {name.replace("_", "-"): value for name, value in keys.items()}
    path.write_text(yaml.safe_dump(_without_none(profile), sort_keys=False), encoding="utf-8")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def snakemake(*arguments: str) -> list[str]:
    """Return the command `snakemake ...`, with this interpreter's."""
    return [sys.executable, "-m", "snakemake", *arguments]


def run_here(folder: Path, *arguments: str) -> None:
    """Run the workflow on this machine, with the world sizes and threads that it has on the cluster."""
    # One thread a rank, here and there: threads shape the sums.
    profile = yaml.safe_load((folder / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    threads = [f"{name}={RANKS.get(name, 1)}" for name in profile["set-threads"]]
    ranks = [f"{name}:ranks={number}" for name, number in RANKS.items()]
    command = snakemake("--cores", "4", "--set-threads", *threads, "--set-resources", *ranks, "--", *arguments)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-8000:]


class Run:
    """Snakemake at work in a checkout on a cluster."""

    def __init__(self, cluster: Cluster, folder: Path, *arguments: str) -> None:
        self.cluster, self.folder = cluster, folder
        self._log = folder / f"snakemake-{time.time_ns()}.txt"
        # The number that the cluster knows the process by, to kill it.
        line = ["bash", "-c", 'echo $$ > snakemake.pid; exec "$@"', "-", *snakemake("--profile", "slurm", *arguments)]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = cluster.popen(*line, folder=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def told(self) -> str:
        """What Snakemake has said so far."""
        return self._log.read_text(encoding="utf-8")

    def ended(self) -> int | None:
        """Return the exit status, or None where it still runs."""
        return self._process.poll()

    def finish(self) -> int:
        """Wait for the end and return the exit status."""
        return self._process.wait(timeout=TIMEOUT_SECONDS)

    def kill(self) -> None:
        """Kill Snakemake as a crash of the login node would."""
        self.cluster.run("kill", "-KILL", (self.folder / "snakemake.pid").read_text(encoding="utf-8").strip())
        self._process.wait(timeout=TIMEOUT_SECONDS)

    def job_at_step(self, stage: str, step: int) -> str:
        """Wait until the stage has taken so many steps; return the number of its SLURM job."""
        self.wait_until(f"{stage} takes step {step}", lambda: steps_taken(self.folder, stage) >= step)
        (job,) = self.cluster.jobs()
        return job

    def wait_until(self, what: str, done: Callable[[], bool]) -> None:
        """Wait while Snakemake runs."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not done():
            assert self.ended() is None and time.monotonic() < deadline, f"not seen: {what}\n{self.told[-6000:]}"
            time.sleep(0.1)


def steps_taken(folder: Path, stage: str) -> int:
    """Return the newest step in the log beside a stage's resume state."""
    for log in folder.glob(f"results/*/state/{stage}/*/log.jsonl"):
        lines = log.read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line)["step"] for line in lines if line.endswith("}") and '"train"' in line]
        return max(steps, default=0)
    return 0


def weights(folder: Path, stage: str) -> dict[str, bytes]:
    """Return the files of a stage's model as they are."""
    model = folder / "results" / "tiny" / stage / "model"
    return {str(path.relative_to(model)): path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()}


def starts(folder: Path, stage: str) -> list[int]:
    """Return the steps after which a finished stage was started: 0, then those where it went on."""
    lines = (folder / "results" / "tiny" / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["step"] for line in map(json.loads, lines) if line["event"] in ("start", "resume")]


def record_of(folder: Path, stage: str) -> dict[str, Any]:
    """Return a stage's run.json."""
    text = (folder / "results" / "tiny" / stage / "run.json").read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def repeat(reference: Path, folder: Path, **site: Any) -> None:
    """Copy a finished checkout without its resume states, so that a stage that is run again trains from its start."""
    shutil.copytree(reference, folder, symlinks=True)
    shutil.rmtree(folder / "results" / "tiny" / "state")
    if site:
        set_site(folder, **site)
