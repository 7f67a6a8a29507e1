"""What clusters do to a training, one scenario each: the weights are those of a run that nothing happened to."""

from __future__ import annotations

import re
import time
from pathlib import Path

from slurm.slurm_cluster import Cluster
from slurm.slurm_material import Run, repeat, starts, steps_taken, weights

STAGE_1 = ("-R", "train_stage1", "--until", "train_stage1")
STAGE_3 = ("-R", "train_stage3", "--until", "train_stage3")
RANKS = "[p]ython -u -m video_vae.train"
KILL_RANK = r"""
for environment in $(grep --files-with-matches --null-data --line-regexp "RANK=$0" /proc/[0-9]*/environ); do
    process=$(dirname "$environment")
    if tr '\0' ' ' < "$process/cmdline" | grep -q -- "-u -m video_vae.train"; then kill -KILL "${process#/proc/}"; fi
done
"""


def a_job_is_cancelled_and_the_command_typed_again(reference: Path, folder: Path) -> None:
    """`scancel` gives the training time to save itself; the same command goes on after the last step taken."""
    repeat(reference, folder, retries=0)
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        cluster.run("scancel", run.job_at_step("stage1", 15))
        assert run.finish() == 1 and "SLURM status is: 'CANCELLED'" in run.told, run.told[-6000:]
        taken = steps_taken(folder, "stage1")
        _finish(Run(cluster, folder, *STAGE_1))
    assert starts(folder, "stage1") == [0, taken]
    assert weights(folder, "stage1") == weights(reference, "stage1")


def the_wall_time_nears(reference: Path, folder: Path) -> None:
    """A training saves itself before its job's wall time, the job goes back into the queue; no retry is spent."""
    repeat(reference, folder, stage={"runtime": 3}, retries=0)
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        job = run.job_at_step("stage1", 10)
        # The steps are too fast for a wall time of minutes: they rest until it nears.
        cluster.run("pkill", "-STOP", "--full", RANKS)
        told = (folder / "logs" / "tiny" / "train_stage1.log").read_text(encoding="utf-8")
        (end,) = set(re.findall(r"--end-by (\d+)", told))
        run.wait_until("the time to end has come", lambda: time.time() > float(end))
        cluster.run("pkill", "-CONT", "--full", RANKS)
        _finish(run)
        assert cluster.jobs("COMPLETED") == [job]
        assert cluster.restarts_of(job) == 1
    assert len(starts(folder, "stage1")) == 2
    assert weights(folder, "stage1") == weights(reference, "stage1")


def the_wall_time_is_over(reference: Path, folder: Path) -> None:
    """A job that SLURM ends for its time is submitted again as a retry, and goes on."""
    repeat(reference, folder, retries=1)
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        job = run.job_at_step("stage1", 15)
        # The step during which the time is over is a long one.
        cluster.run("pkill", "-STOP", "--full", RANKS)
        cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        run.wait_until("the job's time is over", lambda: cluster.jobs() == [])
        cluster.run("pkill", "-CONT", "--full", RANKS)
        _finish(run)
        assert cluster.jobs("TIMEOUT") == [job] and len(cluster.jobs("COMPLETED")) == 1
    assert "SLURM status is: 'TIMEOUT'" in run.told
    first, second = starts(folder, "stage1")
    assert (first, second >= 15) == (0, True)
    assert weights(folder, "stage1") == weights(reference, "stage1")


def a_job_is_preempted(reference: Path, folder: Path) -> None:
    """A job that must make room saves itself, waits in the queue under its number and goes on; no retry is spent."""
    repeat(reference, folder, stage={"slurm_partition": "low"}, retries=0)
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        job = run.job_at_step("stage1", 15)
        cluster.run("sbatch", "--partition=gpu", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")
        _finish(run)
        assert job in cluster.jobs("COMPLETED") and cluster.restarts_of(job) == 1
    assert len(starts(folder, "stage1")) == 2
    assert weights(folder, "stage1") == weights(reference, "stage1")


def a_rank_on_the_second_node_is_killed(reference: Path, folder: Path) -> None:
    """The user sees which rank died and its last lines; the retry goes on from the newest checkpoint."""
    repeat(reference, folder, retries=1)
    with Cluster(nodes=2) as cluster:
        run = Run(cluster, folder, *STAGE_3)
        job = run.job_at_step("stage3", 12)
        cluster.run("bash", "-c", KILL_RANK, "3")
        _finish(run)
        assert cluster.jobs("FAILED") == [job] and len(cluster.jobs("COMPLETED")) == 1
    assert "rank 3 was ended by SIGKILL" in run.told, run.told[-8000:]
    first, second = starts(folder, "stage3")
    assert (first, second >= 10) == (0, True)
    assert weights(folder, "stage3") == weights(reference, "stage3")


def a_node_goes_down(reference: Path, folder: Path) -> None:
    """The job goes back into the queue under its number and goes on at another node; no retry is spent."""
    repeat(reference, folder, retries=0)
    with Cluster(nodes=2) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        job = run.job_at_step("stage1", 15)
        node = cluster.node_of(job)
        cluster.run("scontrol", "update", f"NodeName={node}", "State=down", "Reason=test")
        _finish(run)
        assert cluster.jobs("COMPLETED") == [job] and cluster.restarts_of(job) == 1
        assert cluster.node_of(job) != node
    first, second = starts(folder, "stage1")
    assert (first, second >= 10) == (0, True)
    assert weights(folder, "stage1") == weights(reference, "stage1")


def snakemake_is_killed(reference: Path, folder: Path) -> None:
    """Its job runs on; it is cancelled, and the same command goes on, after `--unlock` too."""
    repeat(reference, folder)
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, *STAGE_1)
        job = run.job_at_step("stage1", 15)
        run.kill()
        assert cluster.jobs() == [job]
        cluster.run("scancel", job)
        while cluster.jobs("RUNNING,COMPLETING"):
            time.sleep(0.5)
        _finish(Run(cluster, folder, "--unlock"))
        _finish(Run(cluster, folder, *STAGE_1))
    assert len(starts(folder, "stage1")) == 2
    assert weights(folder, "stage1") == weights(reference, "stage1")


def a_site_with_accounting(reference: Path, folder: Path) -> None:
    """The same with slurmdbd: `sacct` is asked, jobs have an account, GPUs are asked for by node, no arrays."""
    site = {"slurm_status_command": "sacct", "slurm_array_jobs": None, "retries": 1}
    by_node = {"gpu": None, "slurm_extra": "'--gpus-per-node=2'"}
    repeat(reference, folder, stage=by_node, defaults={"slurm_account": "lab"}, **site)
    with Cluster(nodes=2, accounting=True) as cluster:
        run = Run(cluster, folder, "-R", "cache_latents", "--until", "train_stage1")
        run.job_at_step("stage1", 12)
        cluster.run("bash", "-c", KILL_RANK, "1")
        _finish(run)
        listed = cluster.run("sacct", "--allocations", "--noheader", "--format=Account,State,AllocTRES%60").splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["lab", state] for state in ("COMPLETED",) * 2 + ("FAILED", "COMPLETED")
    ]
    assert "gres/gpu=2" in listed[-1]
    assert "rank 1 was ended by SIGKILL" in run.told, run.told[-8000:]
    assert weights(folder, "stage1") == weights(reference, "stage1")


def _finish(run: Run) -> None:
    """Wait for a run that is to succeed."""
    assert run.finish() == 0, run.told[-8000:]
