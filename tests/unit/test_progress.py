"""Progress is a bar on a terminal and few lines in a log, where what is quick says nothing before it is done."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios

import pytest

from video_vae.progress import pace, progress

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
    assert lines[1].startswith("steps: 21/86400") and lines[-1].startswith(
        "steps: 86400/86400 steps (100 %), 24:00:00 gone"
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


def _timed(monkeypatch: pytest.MonkeyPatch, *pieces: tuple[float, int], total: int, skipped: int = 0) -> list[str]:
    """Return the lines of a job whose pieces take so many seconds for so many frames."""
    written, clock = io.StringIO(), 0.0
    monkeypatch.setattr(sys, "stderr", written)
    bar = progress(total=total, desc="evaluate", unit="frames")
    bar._time = lambda: clock
    bar.start_t = bar.last_print_t = clock
    bar.skip(skipped)
    for seconds, frames in pieces:
        clock += seconds
        bar.update(frames)
    bar.close()
    return written.getvalue().splitlines()


def test_what_the_start_took_is_not_in_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    # 60 s of loading and the first frame, then 1 s per frame: after 11 frames 89 s are left, not 9 minutes
    first, second, *_ = _timed(monkeypatch, (60, 1), *[(1, 1)] * 99, total=100)
    assert first == "evaluate: 1/100 frames (1 %), 01:00 gone, ? left"
    assert second == "evaluate: 11/100 frames (11 %), 01:10 gone, 01:29 left, 1 frames/s"


def test_what_an_earlier_run_did_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, second, last = _timed(monkeypatch, (5, 10), (20, 10), (20, 10), total=130, skipped=100)
    assert second == "evaluate: 120/130 frames (92 %), 00:25 gone, 00:20 left, 2 s per frame"
    assert last.startswith("evaluate: 130/130 frames (100 %)")
    assert _timed(monkeypatch, total=100, skipped=100) == ["evaluate: 100/100 frames (100 %), 00:00 gone, 00:00 left"]


def test_a_small_piece_after_a_large_one_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    # pieces of 32 frames and the one that is left of each clip of 33: 10.5 s of every clip
    pieces = [(20, 32), (10, 1), *[(10, 32), (0.5, 1)] * 9]
    lines = _timed(monkeypatch, *pieces, total=330)
    assert lines[1] == "evaluate: 33/330 frames (10 %), 00:30 gone, 04:30 left, 1.1 frames/s"  # not 49:30
    left = [line.split(", ")[2].split()[0].split(":") for line in lines[1:-1]]
    assert len(left) > 8 and max(60 * int(minutes) + int(seconds) for minutes, seconds in left) <= 270


def test_the_last_line_has_the_mean_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = _timed(monkeypatch, (3, 32), (2, 1), total=33)
    assert last == "evaluate: 33/33 frames (100 %), 00:05 gone, 00:00 left, 6.6 frames/s"  # not 2 s per frame


def test_a_slow_pace_is_told_in_seconds_per_piece(capsys: pytest.CaptureFixture[str]) -> None:
    assert [pace(rate, "frames") for rate in (0.1876, 1.2345, 12.345, 12345)] == [
        "5.33 s per frame",
        "1.23 frames/s",
        "12.3 frames/s",
        "12,345 frames/s",
    ]


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
    assert b"\r" in shown.getvalue() and b"5/5 steps (100 %)" in shown.getvalue()
