"""The launcher: one command for a laptop, a node and many nodes; a failed rank's status and no torchrun traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from video_vae.launch import main, srun_command

LAUNCH = [sys.executable, "-m", "video_vae.launch"]


def _launch(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, "--ranks", str(ranks), "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.distributed
def test_every_rank_runs_and_the_command_is_shown() -> None:
    result = _launch(2, "video_vae", "--version")
    assert result.returncode == 0
    assert result.stdout.splitlines() == ["video-vae 0.1.0"] * 2
    assert result.stderr.startswith("torchrun --standalone --nnodes=1 --nproc_per_node=2 -m video_vae --version\n")


@pytest.mark.distributed
def test_a_failed_rank_gives_its_status_and_its_own_message() -> None:
    result = _launch(1, "video_vae", "manifest", "missing.yaml")
    assert result.returncode == 2
    assert "video-vae manifest: config missing.yaml" in result.stderr
    assert "rank 0 of 1 ended with status 2" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.distributed
def test_a_signal_reaches_the_ranks() -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [*LAUNCH, "-m", "timeit", "-n", "1", "-r", "1", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM" in errors
    assert time.monotonic() - began < 50


def test_many_nodes_meet_at_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123456")
    command = srun_command(3, 8, ["-m", "video_vae.train", '{"seed": 1}'])
    assert command[:5] == ["srun", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    assert "--nnodes=3 --nproc_per_node=8" in command[-1]
    assert "$SLURM_LAUNCH_NODE_IPADDR:" in command[-1]
    assert command[-1].endswith("""-m video_vae.train '{"seed": 1}'""")


def test_many_nodes_without_slurm_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert main(["--nodes", "2", "-m", "video_vae.train"]) == 2
    assert "2 nodes need a SLURM job; run with --profile slurm" in capsys.readouterr().err
