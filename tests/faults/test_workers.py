"""Workers that are killed, stopped or out of memory, and files that vanish before them: the bytes stay the same."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import Reference
from faults.fault_material import STEPS, Job, Ledger, assert_same, children, command, wait_for_step
from training_material import hash_sources, log_lines, make_data, options, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Every step draws videos, so that one that vanishes is soon drawn.
SETTINGS: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 2, "validate_every": STEPS, "image_share": 0.0}
TRAININGS, MOMENTS = 5, 4
APART = STEPS // MOMENTS
"""Steps between two faults: the second must not hit the window of the first, which would then be given up."""
PATIENCE = "50"
"""Seconds, a fifth of which a worker may take for a window."""
FROM_KERNEL = "4096"
"""Bytes from which glibc asks the kernel for each block: what a worker freed would do for its small clips for good."""


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A training without workers."""
    folder = tmp_path_factory.mktemp("workers")
    make_data(folder)
    hash_sources(folder)
    began = time.monotonic()
    config = settings(workers=0, **SETTINGS)
    status, told = Job(command(options(folder, folder / "ref" / "out", config=config)), folder / "tmp").end()
    assert status == 0, told
    return Reference(folder, time.monotonic() - began)


def workers(job: Job) -> list[int]:
    """Return the workers that live and have started: they may write nothing."""
    found = []
    for pid in children(job.process.pid):
        with suppress(OSError):  # it has ended meanwhile
            named = b"reader_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if named and resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0:
                found.append(pid)
    return found


def strike(fault: str, job: Job, chance: random.Random) -> None:
    """Have a fault happen to a worker, and wait until it is gone."""
    until = time.monotonic() + 200
    while not (alive := workers(job)):
        assert time.monotonic() < until and job.process.poll() is None, job.end()[1]
        time.sleep(0.05)
    pid = chance.choice(alive)
    if fault == "memory":
        resource.prlimit(pid, resource.RLIMIT_DATA, (0, 0))
    else:
        os.kill(pid, {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}[fault])
    while pid in workers(job):
        assert time.monotonic() < until, f"worker {pid} is still there; {job.end()[1]}"
        time.sleep(0.05)
    assert job.process.poll() is None, f"worker {pid} went on to the end; {job.end()[1]}"


@pytest.mark.parametrize("number", range(TRAININGS))
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP", "memory"])
def test_a_training_whose_workers_fail_ends_like_one_without_workers(
    pixels: Reference, tmp_path: Path, ledger: Ledger, fault: str, number: int
) -> None:
    chance = ledger.random("workers", fault, number)
    arguments = command(options(pixels.folder, tmp_path / "out", config=settings(workers=2, **SETTINGS)))
    name = {"memory": "a worker out of memory"}.get(fault, f"{fault} of a worker")
    with ledger.trial(name, pixels.seconds) as row:
        job = Job(arguments, tmp_path / "tmp", VIDEO_VAE_PATIENCE=PATIENCE, MALLOC_MMAP_THRESHOLD_=FROM_KERNEL)
        for moment in range(MOMENTS):
            wait_for_step(tmp_path, 1 + APART * moment + chance.randrange(2), job)
            time.sleep(chance.uniform(0, 0.1))
            strike(fault, job, chance)
        status, told = job.end()
        assert status == 0, told
        assert told.count("another worker takes its place") == MOMENTS, told
        assert_same(tmp_path, pixels.folder / "ref", tmp_path / "tmp")
        assert not log_lines(tmp_path / "out" / "log.jsonl", "failed_clip")
        row.count(MOMENTS)


@pytest.mark.parametrize("number", range(TRAININGS))
def test_a_file_that_vanishes_before_a_worker_stops_the_training_until_it_is_back(
    pixels: Reference, tmp_path: Path, ledger: Ledger, number: int
) -> None:
    chance = ledger.random("vanished", number)
    arguments = command(options(pixels.folder, tmp_path / "out", config=settings(workers=2, **SETTINGS)))
    with ledger.trial("a file that vanishes before a worker", pixels.seconds) as row:
        for moment in range(MOMENTS):
            clip = pixels.folder / chance.choice(["a.mkv", "bb.mkv", "ccc.mkv"])
            job = Job(arguments, tmp_path / "tmp", VIDEO_VAE_PATIENCE=PATIENCE)
            wait_for_step(tmp_path, 1 + (APART - 1) * moment + chance.randrange(2), job)
            try:
                clip.rename(clip.with_suffix(".away"))
                status, told = job.end()
            finally:
                clip.with_suffix(".away").rename(clip)
            assert status == 2 and f"{clip}: missing" in told, told
            assert not (tmp_path / "out" / "model").exists()
        assert Job(arguments, tmp_path / "tmp", VIDEO_VAE_PATIENCE=PATIENCE).end()[0] == 0
        assert_same(tmp_path, pixels.folder / "ref", tmp_path / "tmp")
        row.count(MOMENTS)
