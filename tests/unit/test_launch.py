"""The launcher: one command for a laptop, a node and many nodes; a failed rank's status, name and last lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from video_vae.distributed.gpu_locks import acquire_gpus
from video_vae.errors import UserError
from video_vae.launch import main, minutes_left, node_arguments, srun_command, torchrun_arguments, with_deadline

LAUNCH = [sys.executable, "-m", "video_vae.launch"]
PROBE = """
import os, sys, time
rank = os.environ.get("RANK", "0")
sys.stdout.write(os.environ.get(os.environ["SHOW"], "unset") + "\\n")
sys.stdout.flush()
sys.stderr.write(f"line of {rank}\\n")
if rank == os.environ.get("FAIL"):
    os.kill(os.getpid(), int(os.environ["SIGNAL"])) if "SIGNAL" in os.environ else sys.exit(7)
time.sleep(float(os.environ.get("SLEEP", "0")))
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that shows one variable of its environment and fails on one rank."""
    (tmp_path / "launch_probe.py").write_text(PROBE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SHOW", "RANK")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return "launch_probe"


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAUNCH, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.distributed
def test_every_rank_runs_with_its_threads_and_its_name_before_its_lines(
    probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOW", "OMP_NUM_THREADS")
    result = _launch("--ranks", "2", "--threads", "6", "-m", probe)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["3", "3"]
    lines = result.stderr.splitlines()
    assert "2 ranks of 3 threads" in lines[0] and "torchrun --standalone --nnodes=1 --nproc_per_node=2" in lines[0]
    assert {"[rank 0] line of 0", "[rank 1] line of 1"} <= set(lines)


def test_one_rank_is_the_module_itself(probe: str) -> None:
    result = _launch("-m", probe)
    assert (result.returncode, result.stdout) == (0, "unset\n")
    assert result.stderr == f"python -m {probe}\nline of 0\n"


@pytest.mark.distributed
def test_a_killed_rank_gives_its_status_and_its_last_lines(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FAIL": "1", "SIGNAL": "9", "SLEEP": "20"}.items():
        monkeypatch.setenv(name, value)
    result = _launch("--ranks", "2", "-m", probe)
    assert result.returncode == 128 + signal.SIGKILL
    *_, told, last = result.stderr.splitlines()
    assert told.startswith("rank 1 was ended by SIGKILL (out of memory") and last == "[rank 1] line of 1"
    assert "Traceback" not in result.stderr


@pytest.mark.distributed
def test_a_failed_rank_gives_its_status(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "0")
    result = _launch("--ranks", "2", "-m", probe)
    assert result.returncode == 7
    assert result.stderr.splitlines()[-2:] == [
        "rank 0 ended with status 7; its last lines:",
        "[rank 0] line of 0",
    ]
    assert "Traceback" not in result.stderr


@pytest.mark.distributed
def test_of_ranks_that_lost_each_other_the_one_that_says_why_is_shown(tmp_path: Path, probe: str) -> None:
    # Rank 0, which only lost the other, is seen to end first.
    code = """
import os, sys, time
sys.stderr.write("Connection reset by peer" if os.environ["RANK"] == "0" else "video-vae train: no weights")
sys.stderr.flush()
time.sleep(60 * int(os.environ["RANK"]))
sys.exit(2)
"""
    (tmp_path / f"{probe}.py").write_text(code, encoding="utf-8")
    result = _launch("--ranks", "2", "-m", probe)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-2:] == [
        "rank 1 ended; its last lines:",
        "[rank 1] video-vae train: no weights",
    ]


@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_ranks(probe: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setenv("SLEEP", "60")
    command = [*LAUNCH, "--ranks", "2", "-m", probe]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert {process.stdout.readline(), process.stdout.readline()} == {"0\n", "1\n"}
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 128 + number, errors
    assert f"ended by {number.name}" in errors


def test_jobs_on_one_machine_take_different_gpus(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOW", "CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("SLEEP", "60")
    first = subprocess.Popen(
        [*LAUNCH, "--gpus", "1", "-m", probe],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": os.environ["PYTHONPATH"].split(os.pathsep)[0]},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None and first.stdout.readline() == "0\n"
        folder = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0], f"video-vae-gpus-{os.getuid()}")
        assert acquire_gpus(1, ["0", "1"], folder) == ["1"]
        with pytest.raises(UserError, match="1 of 1 GPUs were not free"):
            acquire_gpus(1, ["0"], folder, timeout=0.1)
    finally:
        first.kill()
        first.wait()
    assert acquire_gpus(1, ["0"], folder) == ["0"]


def test_more_gpus_than_there_are_say_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 GPUs wanted, 2 visible; lower the rule's `gpu`"):
        acquire_gpus(8, ["0", "1"], tmp_path)


@pytest.mark.parametrize(
    ("told", "minutes"), [("1-02:30:00", 1590.0), ("45:30", 45.5), ("UNLIMITED", 60.0), ("INVALID", 60.0), ("", 60.0)]
)
def test_slurm_says_what_is_left_of_the_wall_time(
    told: str, minutes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = tmp_path / "squeue"
    queue.write_text(f"#!/bin/sh\necho '{told}'\n", encoding="utf-8")
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert minutes_left(60) == minutes


def test_a_training_ends_before_its_jobs_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert with_deadline(["-m", "video_vae.train"], 0) == ["-m", "video_vae.train"]
    for minutes, kept in ((1440, 1430), (10, 9)):
        *command, option, end = with_deadline(["-m", "video_vae.train"], minutes)
        assert (command, option) == (["-m", "video_vae.train"], "--end-by")
        assert float(end) == pytest.approx(time.time() + 60 * kept, abs=2)


def test_many_nodes_meet_at_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123456")
    command = srun_command(3, "8", 64, ["-m", "video_vae.train", '{"seed": 1}'])
    assert command[:5] == ["srun", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--cpus-per-task=64"]
    assert command[-3:] == ["-m", "video_vae.train", '{"seed": 1}']
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7")
    monkeypatch.setenv("SLURM_NODEID", "2")
    node = node_arguments(3)
    assert node == ["--nnodes=3", "--node_rank=2", "--master_addr=10.0.0.7", "--master_port=23456"]
    assert torchrun_arguments(8, "logs", ["-m", "x"], node)[:5] == [*node, "--nproc_per_node=8"]


def test_many_nodes_without_slurm_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert main(["--nodes", "2", "-m", "video_vae.train"]) == 2
    assert "2 nodes need a SLURM job; run with --profile slurm" in capsys.readouterr().err
