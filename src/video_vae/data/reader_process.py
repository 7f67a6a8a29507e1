"""The worker that `readers` starts: pieces in, what they read out, through a socket.

It is confined as far as a decoder can be, and ends with the thread that started it.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from video_vae.data.content import MediaError
from video_vae.data.readers import ERRORS, Fault, Piece, raw, receive, send
from video_vae.distributed.parent_death import die_with_parent
from video_vae.errors import UserError

SPARE = 1 << 25
"""Bytes without which a worker is out of memory."""
_ANSWERED_BY_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""A terminal and a scheduler send them to all processes of a job; the parent saves itself and ends this one."""


def _read(piece: Piece[Any], memory: int) -> Any:
    """Return what a piece reads, or the error to answer; `memory` is what it may take, in bytes."""
    try:
        return piece.fetch()
    except Exception as error:
        if _lacked_memory(error):
            return Fault(f"decoding it takes more than {memory / (1 << 30):g} GiB of memory")
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


def serve(connection: socket.socket, memory: int) -> None:
    """Answer pieces until the parent is gone."""
    send(connection, b"started")
    while True:
        result = _read(pickle.loads(receive(connection)), memory)  # noqa: S301 (of the parent)
        if isinstance(result, Exception):
            kind = next(name for name, error in ERRORS.items() if isinstance(result, error))
            _send_json(connection, {"error": kind, "args": result.args})
        elif isinstance(result, np.ndarray):
            _send_json(connection, {"shape": result.shape, "dtype": result.dtype.str})
            connection.sendall(raw(np.ascontiguousarray(result)))
        else:
            _send_json(connection, {"value": result})


def _send_json(connection: socket.socket, answer: dict[str, Any]) -> None:
    send(connection, json.dumps(answer).encode())


def main(descriptor: str, parent: str, memory: str, module: str) -> None:
    """Start as a worker of a parent process that holds the other end of a socket."""
    die_with_parent(int(parent))
    for number in _ANSWERED_BY_PARENT:
        signal.signal(number, signal.SIG_IGN)
    import_module(module)
    confine(int(memory))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what decoders say of odd files is nobody's
    with suppress(OSError), socket.socket(fileno=int(descriptor)) as connection:
        serve(connection, int(memory))


if __name__ == "__main__":
    main(*sys.argv[1:])
