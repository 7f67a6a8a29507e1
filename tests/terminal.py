"""A process in a terminal of its own, to press Ctrl-C there: all of its foreground group hear it."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CTRL_C = b"\x03"


class Terminal:
    """Start a command in a new terminal and take what it shows."""

    def __init__(self, line: Sequence[str], cwd: Path, **variables: str) -> None:
        self.shown = ""
        self.status: int | None = None
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            # A shell's background jobs ignore these, and so would what they start.
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(cwd)
            given = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
            os.execvpe(line[0], list(line), given)  # noqa: S606 (no shell: the arguments are a list)

    def press(self, key: bytes = CTRL_C) -> None:
        """Press a key."""
        os.write(self._master, key)

    def close(self) -> None:
        """Close the terminal's window."""
        os.close(self._master)
        self._master = -1

    def read_until(self, done: Callable[[], object], timeout: float) -> None:
        """Take what is shown until something is so.

        Raises:
            AssertionError: if that takes longer than `timeout` seconds, or the command ends before.
        """
        until = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < until, f"not after {timeout} s:\n{self.shown[-3000:]}"
            assert self._read(), f"it ended:\n{self.shown[-3000:]}"

    def end(self, timeout: float = 200) -> list[str]:
        """Wait for the end; return the lines that were shown."""
        until = time.monotonic() + timeout
        while self._master >= 0 and self._read():
            assert time.monotonic() < until, f"no end after {timeout} s:\n{self.shown[-3000:]}"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self._master >= 0:
            os.close(self._master)
        return self.shown.replace("\r", "").splitlines()

    def _read(self) -> bool:
        if select.select([self._master], [], [], 0.05)[0]:
            try:
                read = os.read(self._master, 65536)
            except OSError:  # all its processes have closed it
                return False
            self.shown += read.decode(errors="replace")
            return bool(read)
        return True
