"""Progress is a bar on a terminal and few lines in a log, where what is quick says nothing before it is done."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios

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
    assert lines[1].startswith("steps: 20/86400") and lines[-1].startswith(
        "steps: 86400/86400 it (100 %), 24:00:00 gone"
    )


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_quick_job_says_one_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(range(12), desc="evaluate", unit="frames"))
    (line,) = _lines(capsys)
    assert line.startswith("evaluate: 12/12 frames (100 %)")


def test_what_is_brief_as_a_rule_says_nothing_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(range(12), desc="validate", unit="clips", brief=True))
    assert _lines(capsys) == []


def test_a_terminal_gets_a_bar_that_is_redrawn() -> None:
    code = "from video_vae.progress import progress\nfor _ in progress(range(5), desc='frames'): pass"
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with subprocess.Popen([sys.executable, "-c", code], stderr=follower) as process:
        process.wait()
    os.close(follower)
    shown = io.BytesIO()
    try:
        while part := os.read(leader, 4096):
            shown.write(part)
    except OSError:  # the end of a terminal
        pass
    assert b"\r" in shown.getvalue() and b"100%|" in shown.getvalue()
