"""A rank that hangs ends all ranks after the stated time, and is named; jobs end with the process that wanted them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from video_vae.distributed.parent_death import OWNER
from video_vae.distributed.watchdog import HUNG_STATUS

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]
STUCK = """
import os, signal, sys, threading, time
from video_vae.distributed.ranks import started_ranks
with started_ranks("cpu") as ranks:
    ranks.reached("the first step")
    ranks.barrier()
    if ranks.rank == 1 and os.environ["HOW"] == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if ranks.rank == 1:
        time.sleep(600)
    ranks.reached("the second step")
    ranks.barrier()
"""

WAITS = """
import signal, sys
from video_vae.distributed.parent_death import end_with_owner
end_with_owner()
print(1, flush=True)
signal.pause()
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [("stopped", "no sign of rank 1 on"), ("held up", "hangs after the first step, the others wait")],
)
def test_a_rank_that_hangs_is_named(tmp_path: Path, how: str, said: str) -> None:
    (tmp_path / "stuck_ranks.py").write_text(STUCK, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "HOW": how, "VIDEO_VAE_PATIENCE": "4"}
    line = [sys.executable, "-m", "video_vae.launch", "--ranks", "2", "--threads", "2", "-m", "stuck_ranks"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode in (HUNG_STATUS, 128 + signal.SIGKILL), done.stderr
    assert said in done.stderr and "the same command goes on from the last saved step" in done.stderr
    assert "rank 1 on" in done.stderr


def test_a_job_is_told_to_end_when_its_owner_is_gone(tmp_path: Path) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    environment = {**os.environ, OWNER: f"{os.uname().nodename}:{owner.pid}"}
    job = subprocess.Popen([sys.executable, "-c", WAITS], env=environment, stdout=subprocess.PIPE, text=True)
    other = {**environment, OWNER: f"elsewhere:{owner.pid}"}
    stranger = subprocess.Popen([sys.executable, "-c", WAITS], env=other, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None and stranger.stdout is not None
    assert job.stdout.readline() == stranger.stdout.readline() == "1\n"
    owner.kill()
    owner.wait()
    assert job.wait(timeout=60) == -signal.SIGTERM
    assert stranger.poll() is None  # a process number of another machine means nothing here
    stranger.kill()
    stranger.wait()
