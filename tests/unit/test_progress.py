"""Progress in a log file: often at first, seldom later, so that a failed job's log can be shown whole."""

from __future__ import annotations

import io
import sys

import pytest

from video_vae.progress import progress

DAY = 86_400


def test_a_day_of_steps_is_a_few_hundred_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    clock = 0.0
    bar = progress(total=DAY, desc="steps")
    bar._time = lambda: clock
    bar.start_t = bar.last_print_t = clock
    for _ in range(DAY):
        clock += 1
        bar.update()
    bar.close()
    lines = written.getvalue().splitlines()
    assert 250 < len(lines) < 400
    assert lines[2].startswith("steps: 20/86400") and lines[-1].startswith(
        "steps: 86400/86400 it (100 %), 24:00:00 gone"
    )
