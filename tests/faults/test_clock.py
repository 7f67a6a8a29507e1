"""A clock that jumps, forwards and backwards, while a training runs: nothing but the dates in its log changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.conftest import Reference
from faults.fault_material import CONFIG, STEPS, Job, Ledger, assert_same, command, wait_for_step
from training_material import cached, log_lines, options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


@pytest.mark.parametrize(("jump", "hours"), [("forwards", 30), ("backwards", -30)])
def test_a_clock_that_jumps(
    data: Path, one_rank: Reference, tmp_path: Path, ledger: Ledger, jump: str, hours: int
) -> None:
    fault = f"a clock that jumps {abs(hours)} hours {jump}"
    if not Path(LIBRARY).exists():
        ledger.skip(fault, "needs libfaketime")
        pytest.skip("libfaketime is not there: apt-get install libfaketime")
    clock = tmp_path / "clock"
    clock.write_text("+0\n", encoding="utf-8")
    faked = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    arguments = options(data, tmp_path / "out", *cached(data), "--max-hours", "1", config=CONFIG)
    with ledger.trial(fault, one_rank.seconds):
        job = Job(command(arguments), tmp_path / "tmp", None, **faked, DONT_FAKE_MONOTONIC="1")
        wait_for_step(tmp_path, ledger.random(jump).randrange(1, STEPS // 2), job)
        clock.write_text(f"{hours * 3600:+d}\n", encoding="utf-8")
        status, told = job.end()
        assert status == 0, told
        times = [line["time"] for line in log_lines(tmp_path / "out" / "log.jsonl", "train")]
        assert abs(times[-1] - times[0]) > 20 * 3600  # it did jump
        assert_same(tmp_path, one_rank.folder, tmp_path / "tmp")
