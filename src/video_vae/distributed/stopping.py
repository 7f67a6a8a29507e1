"""Handle the signals that ask a process to end: Ctrl-C, a closed terminal, a scheduler's. Imports nothing heavy.

One press of Ctrl-C reaches every process of the terminal at once, and the launcher and others tell their jobs
beside that. So whoever of us hands Ctrl-C on sends SIGTERM: a second SIGINT is a second press.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GOES_ON = "the same command goes on"
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a job which has nothing to save."""
SAVING = (*ASKING, signal.SIGUSR1)
"""Signals that ask a training for a checkpoint and an end."""
RANK_SHOWN = "VIDEO_VAE_RANK_SHOWN"
"""Set by the launcher, which puts the rank in front of every line and hands Ctrl-C on as SIGTERM."""
ONCE_SECONDS = 0.3
"""Ctrl-C so soon after the first counts as the same one: `timeout` sends it to its child and to the child's group."""
GRACE_SECONDS = 10.0
"""A job with nothing to save that is not gone by then is ended: it waits where no exception reaches it."""
Handler = Callable[[int, FrameType | None], None]

_hearing: list[int] = []
"""Signals that this process hears now, of the outer to the inner listeners."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; the text says how far it got."""

    keeps_work = True
    """False where the same command starts over, in a command that otherwise goes on."""

    def __init__(self, number: int, said: str = "interrupted") -> None:
        super().__init__(said)
        self.number = number


class Presses:
    """Tell a second Ctrl-C from the echo of the first one.

    Args:
        echoes: how many signals more than one a press may come with, such as torchrun's beside the terminal's.
    """

    def __init__(self, echoes: int = 0) -> None:
        self._echoes = echoes
        self._first: float | None = None

    def again(self, number: int) -> bool:
        """Count a signal; return whether it asks for an end at once."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif number == signal.SIGINT and now - self._first > ONCE_SECONDS:
            self._echoes -= 1
            return self._echoes < 0
        return False


@contextmanager
def heard(numbers: Iterable[signal.Signals], hear: Callable[[int], None], handler: Handler) -> Iterator[None]:
    """Call `hear` for each of some signals for a while, from a thread, so also where the main thread is stuck.

    `handler` is called by the main thread when it gets to it. Signals that this process was started to ignore (nohup,
    jobs in the background of a script) stay ignored. Outside the main thread nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    chosen = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in chosen}
    outer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    _hearing.extend(chosen)
    threading.Thread(target=_read, args=(reader, set(chosen), hear), name="signals", daemon=True).start()
    try:
        yield
    finally:
        del _hearing[len(_hearing) - len(chosen) :]
        signal.set_wakeup_fd(outer)
        for number, old in before.items():
            signal.signal(number, old)
        writer.close()


def _read(reader: socket.socket, numbers: set[signal.Signals], hear: Callable[[int], None]) -> None:
    with reader:
        while received := reader.recv(64):
            for number in received:
                if number in numbers:
                    hear(number)


def _forget() -> None:
    """Leave signals to the process that this one was forked from: it ends its workers when it has saved."""
    if _hearing:
        signal.set_wakeup_fd(-1)
        for number in _hearing:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        _hearing.clear()


os.register_at_fork(after_in_child=_forget)


class StopRequest:
    """The signal that asked this process to end, if one did."""

    def __init__(self) -> None:
        self.signal: int | None = None
        # torchrun hands on Ctrl-C to ranks that had it from the terminal; our launcher does not.
        echoed = "TORCHELASTIC_RUN_ID" in os.environ and RANK_SHOWN not in os.environ
        self._presses = Presses(echoes=int(echoed))

    def _hear(self, number: int) -> None:
        self._note(number, None)
        if self._presses.again(number):
            end_at_once(number, f"ended at once; {GOES_ON} from the last checkpoint")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals that ask for an end for a while instead of dying of them; a second Ctrl-C ends at once."""
        with heard(SAVING, self._hear, self._note):
            yield


@contextmanager
def ending_when_asked() -> Iterator[None]:
    """Raise Stopped in the main thread when a signal asks for an end; a second Ctrl-C, or no end soon, ends at once."""
    presses = Presses()
    asked = threading.Event()

    def hear(number: int) -> None:
        """End at once where that is asked for, and in a while where nothing happens."""
        if presses.again(number):
            end_at_once(number)
        timer = threading.Timer(GRACE_SECONDS, end_at_once, (number,))
        timer.daemon = True
        timer.start()

    def stop(number: int, frame: FrameType | None) -> None:
        """Raise once: what cleans up is not disturbed."""
        if not asked.is_set():
            asked.set()
            raise Stopped(number)

    with heard(ASKING, hear, stop):
        yield


def end_at_once(number: int, said: str = "") -> None:
    """Exit without clean-up, with the status of a signal."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{said}\n" if said else "")
        sys.stderr.flush()
    os._exit(128 + number)


def tell(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those of some processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
