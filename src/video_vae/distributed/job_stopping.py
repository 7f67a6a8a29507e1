"""Stop the workflow's jobs when the process that runs it is asked to end by Ctrl-C or a closed terminal.

Left alone, that process would wait for its jobs to end by themselves, which takes days, and report them as failed. They
are told to end, a training saves itself, and one line says how to go on. Knows nothing of Snakemake.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol

from video_vae.distributed.parent_death import family, jobs_of
from video_vae.distributed.stopping import GOES_ON, Presses, tell

SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""Signals that end the workflow; what SIGTERM does is the workflow program's own business."""
LOOK_SECONDS = 0.2
"""Time between two looks for jobs that had only just been started."""
STOPPING = "stopping: running jobs save what they have and end; Ctrl-C again ends them at once"
AT_STEP = re.compile(r"stopped at step \d+")
TAIL = 4096
"""Bytes of a log's end that are read."""


class Runner(Protocol):
    """What runs the jobs."""

    def running(self) -> Mapping[str, Sequence[str]]:
        """Return the log files of the jobs that run on this machine, by the names of the jobs."""

    def silence(self) -> None:
        """Report no more: jobs that are told to end have not failed."""

    def drain(self) -> bool:
        """Start no more jobs and end when those that run have ended; False where an interrupt must do it."""


class JobStopper:
    """Stop the jobs that this process owns when it is asked to end."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._presses = Presses()
        self._running: dict[str, list[str]] = {}
        self._asked = False

    def install(self) -> None:
        """Listen to the signals, but those that this process was started to ignore."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._presses.again(number):
            tell(family(jobs_of(os.getpid())), signal.SIGKILL)
            raise KeyboardInterrupt
        if self._asked:
            return
        self._asked = True
        self._running = {name: list(logs) for name, logs in self._runner.running().items()}
        self._runner.silence()
        sys.excepthook = _without_interrupts
        atexit.register(self._say_the_last)
        if self._running:
            _say(STOPPING)
        threading.Thread(target=self._stop_jobs, name="stop", daemon=True).start()
        if not self._runner.drain():
            raise KeyboardInterrupt

    def _stop_jobs(self) -> None:
        """Tell each job once, until this process ends."""
        told: set[int] = set()
        while True:
            new = set(jobs_of(os.getpid())) - told
            tell(new, signal.SIGTERM)
            told |= new
            time.sleep(LOOK_SECONDS)

    def _say_the_last(self) -> None:
        """Say how to go on, unless the one job that ran has just said it in the same place."""
        lasts = {name: _last_line(logs) for name, logs in self._running.items()}
        if len(lasts) == 1 and all(last.endswith(GOES_ON) for last in lasts.values()) and _one_output():
            return
        steps = {name: AT_STEP.search(last) for name, last in lasts.items()}
        named = ", ".join(f"{name} {step[0] if step else 'stopped'}" for name, step in steps.items())
        _say(f"{named or 'stopped'}; {GOES_ON}")


def _last_line(logs: Sequence[str]) -> str:
    for name in logs:
        with suppress(OSError), Path(name).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            lines = stream.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def _one_output() -> bool:
    """Tell whether the jobs' output, which is this process's, goes where its messages go."""
    try:
        return os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        return False


def _without_interrupts(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal is closed
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
