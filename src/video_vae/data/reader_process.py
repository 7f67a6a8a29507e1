"""The worker that `readers` starts: pieces of clips in, arrays out, through a socket.

It is confined as far as a decoder can be, and ends with the thread that started it.
"""

from __future__ import annotations

import resource
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video_vae.data.content import MediaError
from video_vae.data.readers import Fault, Piece, raw, receive, send
from video_vae.distributed.parent_death import die_with_parent
from video_vae.errors import UserError

SPARE = 1 << 25
"""Bytes without which a worker is out of memory."""
_ANSWERED_BY_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""A terminal and a scheduler send them to all processes of a job; the parent saves itself and ends this one."""


def _read(piece: Piece) -> NDArray[Any] | Exception:
    try:
        return np.ascontiguousarray(piece.fetch())
    except Exception as error:
        if _lacked_memory(error):
            return Fault("the decoder takes more memory than it may")
        if isinstance(error, MediaError | UserError):
            return error
        # Whatever a decoder raises on a broken file, the file is at fault.
        return MediaError("unreadable", f"{type(error).__name__}: {error}")


def _lacked_memory(error: Exception) -> bool:
    """Tell whether the process is at fault and not the file; each library says so in its own way, or not at all."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return True
    try:
        bytearray(SPARE)
    except MemoryError:
        return True
    return False


def confine(memory: int) -> None:
    """Limit what a decoder can take or leave behind: bytes over what is in use now, no written file, no core.

    Mapped files do not count: a latent cache may be larger than the memory.
    """
    used = 0
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/status").read_text(encoding="utf-8").partition("VmData:")[2].split()[0]) << 10
    limits = {resource.RLIMIT_DATA: used + memory, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for kind, most in limits.items():
        with suppress(ValueError, OSError):  # systems that know no such limit, or set a lower one
            resource.setrlimit(kind, (most, most))


def serve(connection: socket.socket) -> None:
    """Answer pieces until the parent is gone."""
    send(connection, "started")
    while True:
        answer = _read(receive(connection))
        if isinstance(answer, Exception):
            send(connection, answer)
        else:
            send(connection, (answer.shape, answer.dtype))
            connection.sendall(raw(answer))


def main(descriptor: str, parent: str, memory: str, module: str) -> None:
    """Start as a worker of a parent process that holds the other end of a socket."""
    die_with_parent(int(parent))
    for number in _ANSWERED_BY_PARENT:
        signal.signal(number, signal.SIG_IGN)
    import_module(module)
    confine(int(memory))
    with suppress(OSError), socket.socket(fileno=int(descriptor)) as connection:
        serve(connection)


if __name__ == "__main__":
    main(*sys.argv[1:])
