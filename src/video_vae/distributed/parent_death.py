"""End with the process that wanted this one: work that nobody waits for any more would be in the way of its successor.

A Snakemake or a launcher that is killed takes nobody with it. The workflow therefore names itself to its jobs, and they
ask the kernel to be told of its end. Imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

OWNER = "VIDEO_VAE_OWNER"
"""Environment variable PID or HOST:PID, set by the workflow for its jobs; on another host it means nothing."""
_PR_SET_PDEATHSIG = 1
"""Of Linux."""


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


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, even if this process is stopped then."""
    with suppress(OSError, AttributeError):  # another system
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)


def _wait(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def children(pid: int) -> list[int]:
    """List the processes of this machine that a process started and that have not ended."""
    return [child for child, parent in _parents().items() if parent == pid]


def jobs_of(owner: int) -> list[int]:
    """List the jobs of this user that name a process as their owner, without what they started themselves."""
    parents = _parents()
    named = {pid for pid in parents if pid != owner and _owner(pid) == owner}
    return [pid for pid in named if parents[pid] not in named]


def family(pids: list[int]) -> list[int]:
    """List some processes and all that they started, directly or not."""
    parents = _parents()
    found = [pid for pid in pids if pid in parents]
    for pid in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found


def _parents() -> dict[int, int]:
    """Return the parent of each process that lives."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(folder.name)] = int(fields[1])
    return found


def _owner(pid: int) -> int | None:
    """Return the owner that a process of this machine was started with."""
    with suppress(OSError, ValueError):  # it has ended, or is another user's
        for variable in Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"):
            name, _, value = variable.partition("=")
            host, _, number = value.rpartition(":")
            if name == OWNER and host in ("", socket.gethostname()):
                return int(number)
    return None
