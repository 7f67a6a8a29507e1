"""Ranks, launchers and trainings that are killed, told to end or stopped: the same command finishes the work."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from faults.conftest import Reference
from faults.fault_material import (
    CONFIG,
    OFTEN,
    STEPS,
    TIMEOUT_SECONDS,
    Job,
    Ledger,
    assert_same,
    command,
    wait_for_step,
    wait_until_gone,
)
from training_material import cached, options, settings

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(900)]
FAULTS = {
    "SIGKILL of a rank": (signal.SIGKILL, "rank"),
    "SIGKILL of a rank that shares the optimizer": (signal.SIGKILL, "rank"),
    "SIGKILL of torchrun": (signal.SIGKILL, "launcher"),
    "SIGTERM": (signal.SIGTERM, "launcher"),
    "SIGUSR1": (signal.SIGUSR1, "launcher"),
    "Ctrl-C": (signal.SIGINT, "all"),
    "a closed terminal": (signal.SIGHUP, "all"),
    "a hung rank (SIGSTOP)": (signal.SIGSTOP, "rank"),
}


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disturbed_training_ends_like_an_undisturbed_one(
    data: Path, two_ranks: Reference, tmp_path: Path, ledger: Ledger, fault: str, number: int
) -> None:
    chance = ledger.random(fault, number)
    config = settings(**OFTEN, shard_optimizer="shares" in fault)
    arguments = command(options(data, tmp_path / "out", *cached(data), config=config), ranks=2)
    signal_number, target = FAULTS[fault]
    with ledger.trial(fault, two_ranks.seconds):
        job = Job(arguments, tmp_path / "tmp")
        wait_for_step(tmp_path, chance.randrange(1, STEPS - 3), job)
        time.sleep(chance.uniform(0, 0.1))
        rank = chance.randrange(2)
        began = time.monotonic()
        if target == "all":  # as the terminal does
            os.killpg(job.process.pid, signal_number)
        else:
            os.kill(job.rank(rank) if target == "rank" else job.process.pid, signal_number)
        if signal_number == signal.SIGKILL and target == "launcher":
            wait_until_gone(job.process.pid)  # the ranks save themselves and end
        status, told = job.end()
        assert status != 0 and not (tmp_path / "out" / "model").exists(), told
        if signal_number == signal.SIGSTOP:
            assert f"no sign of rank {rank} on" in told
            assert time.monotonic() - began < 4 * TIMEOUT_SECONDS + 20
        status, told = Job(arguments, tmp_path / "tmp").end()
        assert status == 0, told
        assert_same(tmp_path, two_ranks.folder, tmp_path / "tmp")


@pytest.mark.parametrize("number", range(3))
def test_a_training_on_one_rank_is_killed_and_started_again(
    data: Path, one_rank: Reference, tmp_path: Path, ledger: Ledger, number: int
) -> None:
    chance = ledger.random("one rank", number)
    arguments = command(options(data, tmp_path / "out", *cached(data), config=CONFIG))
    with ledger.trial("SIGKILL of a training on one rank", one_rank.seconds):
        job = Job(arguments, tmp_path / "tmp")
        wait_for_step(tmp_path, chance.randrange(1, STEPS - 3), job)
        os.kill(job.process.pid, signal.SIGKILL)
        assert job.end()[0] == -signal.SIGKILL
        assert Job(arguments, tmp_path / "tmp").end()[0] == 0
        assert_same(tmp_path, one_rank.folder, tmp_path / "tmp")
