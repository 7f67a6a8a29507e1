"""End with the process that wanted this one: work that nobody waits for any more would be in the way of its successor.

A Snakemake or a launcher that is killed takes nobody with it. The workflow therefore names itself to its jobs, and they
ask the kernel to be told of its end. Imports nothing heavy.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading

OWNER = "VIDEO_VAE_OWNER"
"""Environment variable PID or HOST:PID, set by the workflow for its jobs; on another host it means nothing."""


def end_with_owner() -> None:
    """Send this process a SIGTERM (which a training answers by saving) when the process named by OWNER has ended."""
    host, _, number = os.environ.get(OWNER, "").rpartition(":")
    if number and not host:
        host = socket.gethostname()
        os.environ[OWNER] = f"{host}:{number}"  # processes that this one starts elsewhere are to know
    if host == socket.gethostname() and number.isdigit() and int(number) != os.getpid():
        end_with(int(number))


def end_with(pid: int) -> None:
    """Send this process a SIGTERM when another one has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    except (OSError, AttributeError):  # an old kernel, or another system
        return
    threading.Thread(target=_wait, args=(handle,), name="owner", daemon=True).start()


def _wait(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
