"""Ctrl-C in the terminal of a job that was started by hand: all ranks hear it, a training is saved once, others end."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from terminal import Terminal
from training_material import cached, command, options, settings

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
CONFIG = settings(steps=100_000, checkpoint_every=100_000, validate_every=100_000)
LAUNCH = [sys.executable, "-m", "video_vae.launch", "--threads", "2"]


@pytest.mark.parametrize("how", ["one rank", "the launcher", "the launcher, with a wall time", "torchrun"])
def test_ctrl_c_saves_the_last_step_and_the_last_line_names_it(data: Path, tmp_path: Path, how: str) -> None:
    arguments = options(data, tmp_path / "out", *cached(data), config=CONFIG)
    line = {
        "one rank": command(arguments),
        "the launcher": [*LAUNCH, "--ranks", "2", "-m", "video_vae.train", *arguments],
        "the launcher, with a wall time": [*LAUNCH, "--wall-minutes", "60", "-m", "video_vae.train", *arguments],
        "torchrun": command(arguments, ranks=2),
    }[how]
    job = Terminal(line, tmp_path)
    log = tmp_path / "state" / "stage1"

    def last_step() -> int:
        text = "".join(path.read_text() for path in log.glob("*/log.jsonl"))
        return max(
            (int(step) for step in re.findall(r'"step": (\d+), "time": [\d.]+, "event": "train"', text)), default=0
        )

    job.read_until(lambda: last_step() > 2, timeout=200)
    job.press()
    shown = job.end()
    assert [int(path.name[5:]) for path in log.glob("*/step-*")] == [last_step()], job.shown[-3000:]
    said = f"stage1 stopped at step {last_step()}; the same command goes on"
    assert sum(line.endswith(said) for line in shown) == 1
    if how == "torchrun":  # which ends by a traceback of its own
        return
    assert job.status in (130, 143) and shown[-1].removeprefix("[rank 0] ") == said and "Traceback" not in job.shown
