"""`video-vae status` says from files alone what runs, what is done, and what failed and why, whenever it looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training_material import cached, command, environment, make_data, options, settings
from video_vae.cli import main
from video_vae.status.jobs import Workflow, read_workflow
from video_vae.status.stages import Stage, read_stages
from video_vae.status.status import Look, as_text, look

SNAKEFILE = """
rule all:
    input: "good.txt", "bad.txt"

rule make_good:
    output: "good.txt"
    log: "logs/good.log"
    shell: "echo fine > {log}; touch {output}"

rule train_stage2:
    output: "{experiment}.txt"
    log: "logs/{experiment}/train_stage2.log"
    shell: "echo 'the first line' > {log}; echo 'clip 7 cannot be read' >> {log}; exit 3"
"""
SLURM = """\
  Host: login
Job stats:
job             count
------------  -------
train_stage1        1
cache_latents       2
all                 1
total               4

Select jobs to execute...
[Tue Nov 24 14:08:18 2026]
rule cache_latents:
    output: results/latents/90149c9a07b8fcd0/shard_0.safetensors
    log: logs/latents/shard_0.log
    jobid: 6
    wildcards: fingerprint=90149c9a07b8fcd0, shard=0
[Tue Nov 24 14:08:18 2026]
rule cache_latents:
    log: logs/latents/shard_1.log
    jobid: 7
    wildcards: fingerprint=90149c9a07b8fcd0, shard=1
Submitted array job with Snakemake IDs 6,7 and SLURM job ID 9. The individual task IDs are 1-2.
[Tue Nov 24 14:09:57 2026]
rule train_stage1:
    output: results/tiny/stage1/model
    log: logs/tiny/train_stage1.log
    jobid: 4
    wildcards: experiment=tiny
Job 4 has been submitted with SLURM jobid 12 (log: {root}/logs/slurm/rule_train_stage1/tiny/12.log).
[Tue Nov 24 14:10:30 2026]
Error in rule train_stage1:
    message: SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'.
    jobid: 4
    log: logs/tiny/train_stage1.log (check log file(s) for error details)
Trying to restart job 4.
[Tue Nov 24 14:10:31 2026]
rule train_stage1:
    output: results/tiny/stage1/model
    log: logs/tiny/train_stage1.log
    jobid: 4
    wildcards: experiment=tiny
Job 4 has been submitted with SLURM jobid 13 (log: {root}/logs/slurm/rule_train_stage1/tiny/13.log).
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Snakemake made one file and failed at another."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", "--retries", "1"]
    assert subprocess.run(line, cwd=folder, capture_output=True, check=False).returncode == 1
    return folder


def _read(root: Path) -> Workflow:
    workflow = read_workflow(root)
    assert workflow is not None
    return workflow


def test_a_failed_job_is_named_with_its_log_and_its_last_lines(failed: Path) -> None:
    workflow = _read(failed)
    assert (workflow.state, workflow.done, workflow.total) == ("failed", 1, 3)
    assert {job.rule: job.state for job in workflow.jobs} == {"make_good": "done", "train_stage2": "failed"}
    text = "\n".join(as_text(Look(workflow=workflow), failed / "results"))
    assert "workflow failed: 1 of 3 jobs done, 1 failed" in text
    assert "failed after 2 attempts: train_stage2 (bad)" in text
    assert "  log: logs/bad/train_stage2.log" in text and "  | clip 7 cannot be read" in text


def test_a_log_that_is_being_written_can_be_read_at_any_byte(failed: Path, tmp_path: Path) -> None:
    log = next((failed / ".snakemake" / "log").glob("*.log"))
    content = log.read_bytes()
    target = tmp_path / ".snakemake" / "log" / log.name
    target.parent.mkdir(parents=True)
    seen = set()
    for end in range(0, len(content), 7):
        target.write_bytes(content[:end])
        workflow = read_workflow(tmp_path)
        seen.add(None if workflow is None else workflow.state)
        assert workflow is None or workflow.done <= 1
    assert {None, "stopped"} <= seen


def test_a_cluster_job_waits_until_its_log_is_there_and_counts_its_attempts(tmp_path: Path) -> None:
    log = tmp_path / ".snakemake" / "log" / "2026-11-24T140805.7.snakemake.log"
    log.parent.mkdir(parents=True)
    log.write_text(SLURM.replace("{root}", str(tmp_path)), encoding="utf-8")
    # newer, but a helper's that plans nothing
    (log.parent / "2026-11-24T140808.0.snakemake.log").touch()
    (tmp_path / ".snakemake" / "locks").mkdir()
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").touch()
    shard = tmp_path / "logs" / "latents" / "shard_1.log"
    shard.parent.mkdir(parents=True)
    shard.write_text("encode latents: 10/90 frames\n", encoding="utf-8")
    workflow = _read(tmp_path)
    found = {job.number: (job.state, job.slurm, job.attempts) for job in workflow.jobs}
    assert workflow.state == "running"
    assert found == {6: ("queued", "9", 1), 7: ("running", "9", 1), 4: ("queued", "13", 2)}
    text = "\n".join(as_text(Look(workflow=workflow), tmp_path / "results"))
    assert "cache_latents (90149c9a07b8fcd0, 1), SLURM job 9: encode latents: 10/90 frames" in text
    assert "in the queue:\n  train_stage1 (tiny), SLURM job 13" in text


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not ready():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)


def test_a_training_is_seen_to_run_and_to_be_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_data(tmp_path)
    config = settings(steps=100_000, identity_weight=0.0, validate_every=100_000)
    arguments = options(tmp_path, tmp_path / "results/mine/stage1", *cached(tmp_path), config=config)

    def stage() -> Stage:
        return read_stages(tmp_path / "results")[0]

    with subprocess.Popen(command(arguments), env=environment(), stderr=subprocess.DEVNULL) as process:
        _wait(lambda: len(read_stages(tmp_path / "results")) == 1 and stage().step >= 4, process)
        running = stage()
        assert main(["status", "--results", str(tmp_path / "results")]) == 0
        process.kill()
        process.wait()
        killed = stage()
        lock = next((tmp_path / "results/mine/state/stage1").glob("*/lock"))
        lock.write_text("elsewhere:1\n")
        elsewhere = look(tmp_path / "results")
    assert (killed.state, killed.host) == ("stopped", "")
    assert (elsewhere.stages[0].state, elsewhere.stages[0].host) == ("running", "elsewhere")
    assert "stage1 of mine runs on elsewhere, by its log, last written" in "\n".join(as_text(elsewhere, tmp_path))
    assert (running.state, running.steps) == ("running", 100_000)
    assert running.loss and running.frames_per_s and running.seconds_left and running.checkpoint_step
    shown = capsys.readouterr().out
    assert "mine  stage1  running" in shown and "/100,000 (0 %)" in shown
    assert "to spatial) 8x5-9 frames" in shown  # what the figure of step 0 is of, and compares with
    log = next((tmp_path / "results/mine/state/stage1").glob("*/log.jsonl"))
    with log.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 99, "time": ')
    later = read_stages(tmp_path / "results", now=time.time() + 3600)[0]
    assert later.state == "stopped" and later.step < 99 and later.checkpoint_age is not None
    assert later.checkpoint_age > 3500 and later.silent is not None and later.silent > 3500


def test_json_holds_every_figure_and_nothing_heavy_is_imported(failed: Path) -> None:
    code = "import sys; from video_vae.cli import main; main(['status', '--json'])"
    check = "assert not {'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {check}"], cwd=failed, capture_output=True, text=True, check=True
    )
    record = json.loads(done.stdout)
    assert record["workflow"]["states"] == {"done": 1, "failed": 1} and record["stages"] == []


def test_watching_shows_it_again_until_interrupted(failed: Path) -> None:
    # A shell's background jobs ignore SIGINT, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    line = [sys.executable, "-m", "video_vae", "status", "--watch", "--interval", "0.2"]
    with subprocess.Popen(line, cwd=failed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        seen = 0
        while seen < 2:
            seen += process.stdout.readline().startswith("workflow failed")
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130 and "Traceback" not in said


def test_where_nothing_has_run_it_says_where_to_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--results", str(tmp_path / "results")]) == 2
    assert "nothing has run here" in capsys.readouterr().err


def test_a_failed_training_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    log = tmp_path / ".snakemake" / "log" / "2026-11-24T140805.7.snakemake.log"
    log.parent.mkdir(parents=True)
    text = SLURM.replace("{root}", str(tmp_path)).partition("Trying to restart")[0]
    log.write_text(text + "Complete log(s): here\n", encoding="utf-8")
    journal = tmp_path / "results/tiny/state/stage1/0123/log.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"step": 0, "time": 5, "event": "start", "steps": 9}\n', encoding="utf-8")
    (journal.parent / "step-000000004").mkdir()
    seen = look(tmp_path / "results")
    stages, workflow = seen.stages, seen.workflow
    assert workflow is not None and workflow.state == "failed"
    assert [(stage.state, stage.steps) for stage in stages] == [("failed", 9)]
    saved = "step 4 of stage1 of tiny is saved: without the cause of the failure, the same command goes on from there"
    assert saved in list(as_text(seen, tmp_path / "results"))
