"""Signals that ask for an end: one saves, a second Ctrl-C ends at once, however busy the process is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from video_vae.distributed.parent_death import OWNER, children, family, jobs_of

TRAINING = """
import hashlib, os, sys, time
from video_vae.distributed.stopping import StopRequest
stop = StopRequest()
with stop.listening():
    if sys.argv[1] == "fork" and os.fork() == 0:
        time.sleep(60)  # a loader's worker: the training ends it
        os._exit(0)
    print("begun", flush=True)
    if sys.argv[1] == "stuck":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)  # minutes in C, as a collective that waits
    while stop.signal is None:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(float(sys.argv[2]))
    print("saved", flush=True)
sys.exit(128 + stop.signal)
"""
"""Does what a training does at a signal."""
JOB = """
import sys, time
from pathlib import Path
from video_vae.distributed.stopping import ending_when_asked
with ending_when_asked():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        time.sleep(float(sys.argv[1]))
        print("cleaned up", flush=True)
"""


@pytest.fixture(autouse=True)
def _heard() -> None:
    """Let children hear Ctrl-C: a shell's background jobs ignore it, and so would what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _start(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    told = process.communicate(timeout=30)
    return process.returncode, "".join(told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_training_saves_at_each_signal_that_asks_for_an_end(number: signal.Signals) -> None:
    process = _start(TRAINING, "plain", "0")
    process.send_signal(number)
    assert _end(process) == (128 + number, "saving\nsaved\n")


def test_what_hands_ctrl_c_on_as_sigterm_counts_as_the_same_press() -> None:
    process = _start(TRAINING, "plain", "1.5")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):  # `timeout` sends it twice
        process.send_signal(number)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    status, told = _end(process)
    assert status in (130, 143) and told == "saving\nsaved\n"  # of signals that come together any may be seen first


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_at_once(first: signal.Signals) -> None:
    process = _start(TRAINING, "plain", "60")
    process.send_signal(first)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert _end(process) == (130, "saving\nended at once; the same command goes on from the last checkpoint\n")


def test_a_second_ctrl_c_ends_a_process_that_hangs_outside_python() -> None:
    process = _start(TRAINING, "stuck", "0")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    status, told = _end(process)
    assert status == 130 and "saving" not in told


def test_under_torchrun_the_signal_that_it_hands_on_is_no_second_ctrl_c() -> None:
    process = _start(TRAINING, "plain", "1.5", TORCHELASTIC_RUN_ID="none")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert _end(process) == (130, "saving\nsaved\n")


def test_forked_workers_leave_ctrl_c_to_their_training() -> None:
    process = _start(TRAINING, "fork", "1.5")
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    os.kill(worker, signal.SIGINT)
    assert children(process.pid) == [worker]
    process.wait(timeout=30)
    os.kill(worker, signal.SIGTERM)
    assert _end(process) == (130, "saving\nsaved\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_other_jobs_clean_up_and_end(number: signal.Signals) -> None:
    process = _start(JOB, "0")
    process.send_signal(number)
    status, told = _end(process)
    assert status != 0 and told.startswith("cleaned up\n") and "Stopped: interrupted" in told


def test_a_second_ctrl_c_does_not_wait_for_the_cleaning_up() -> None:
    process = _start(JOB, "60")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert _end(process) == (130, "")


def test_what_was_started_to_ignore_a_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _start(TRAINING, "plain", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert _end(process)[0] == 143


def test_a_job_is_found_by_its_owner_without_what_it_started(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    job = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, OWNER: str(os.getpid())})
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, OWNER: "1"})
    try:
        until = time.monotonic() + 30
        while not children(job.pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert jobs_of(os.getpid()) == [job.pid]
        assert sorted(family([job.pid])) == sorted([job.pid, *children(job.pid)])
    finally:
        for pid in [*family([job.pid]), other.pid]:
            os.kill(pid, signal.SIGKILL)
        job.wait()
        other.wait()
