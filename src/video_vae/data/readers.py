"""Decode in processes of their own: a decoder that crashes, hangs or takes too much memory costs a file, not the run.

A worker (`video_vae.data.reader_process`) has a connection of its own and shares nothing with the others or with the
process that asks it: no lock, no queue, no GPU. So it can be killed at any moment, which is what happens to one that
does not answer in time. What it read is lost with it, and read again by the worker that takes its place.

Requests are pickled. Answers are JSON, then the bytes of an array where there is one: a decoder sends data only.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from video_vae.data.content import MediaError
from video_vae.data.probed import stamp
from video_vae.errors import UserError

log = logging.getLogger(__name__)

LIMIT_SECONDS = 60.0
"""Time that a piece may take, and as much again for every `LIMIT_BYTES` of its file: it may be hashed, or indexed."""
LIMIT_BYTES = 1.2e9
LIMIT_MEMORY = 4 << 30
"""What a worker may take for a piece, in bytes, over what it takes for itself."""
START_SECONDS = 300.0
"""Time that a worker may take to start: a busy disk is slow to give the libraries."""
TRIES = 2
"""The first worker that fails on a piece may have been killed by anybody."""
STARTS = 3
"""Workers that fail to start, one after another, before the run ends."""
CLOSE_SECONDS = 10.0
"""Longest wait for the end of workers that were killed; one that waits for a disk ends when the disk answers."""
WITHOUT = "with the stage's workers: 0 none is needed"
"""What to do where no worker starts."""
_LENGTH = struct.Struct("<Q")
Result_co = TypeVar("Result_co", covariant=True)


class Piece(Protocol[Result_co]):
    """What is to be read of a file; holds all that is needed for it, and can be pickled."""

    @property
    def path(self) -> str:
        """The file that is read."""

    def fetch(self) -> Result_co:
        """Read it: an array, or what JSON can hold.

        Raises:
            MediaError: if the clip cannot be used.
            UserError: if something is at fault that people can put right.
        """


class Fault(Exception):
    """A worker crashed, hung or ran out of memory."""


ERRORS = {kind.__name__: kind for kind in (MediaError, UserError, Fault)}
"""What a worker may answer instead of a result."""


class Readers:
    """Up to `count` workers, each started when it is first needed; any number of threads may use them.

    Args:
        count: number of workers.
        seconds: time that a piece may take, for a small file.
        memory: bytes that a piece may take.
        tries: a piece is given up when so many workers have failed on it.
        cure: what to do where no worker starts.
    """

    def __init__(
        self,
        count: int,
        seconds: float = LIMIT_SECONDS,
        memory: int = LIMIT_MEMORY,
        tries: int = TRIES,
        cure: str = WITHOUT,
    ) -> None:
        self.count = count
        self._seconds, self._memory, self._tries, self._cure = seconds, memory, tries, cure
        self._workers: list[_Worker | None] = [None] * count
        self._idle = set(range(count))
        self._freed = threading.Condition()
        self._closed = False
        # A worker ends with the thread that started it; those that ask for pieces may come and go.
        self._starter = ThreadPoolExecutor(1)

    def fetch(self, piece: Piece[Result_co]) -> Result_co:
        """Read a piece in a worker; one that fails is replaced, and the piece is tried again.

        Raises:
            MediaError: if the file cannot be used, or its piece costs worker after worker.
            UserError: what the piece raises, or if no worker starts.
            Fault: if the workers were closed meanwhile.
        """
        said = ""
        for tried in range(1, self._tries + 1):
            place = self._take(piece.path)
            try:
                return cast(Result_co, self._worker(place, piece).ask(piece, self._seconds))
            except Fault as fault:
                said = str(fault)
                self._end(place)
                if self._closed:
                    raise
                if tried < self._tries:
                    log.warning("%s: %s; another worker takes its place", piece.path, fault)
            finally:
                self._give_back(place)
        raise MediaError("unreadable", said if self._tries == 1 else f"{said}, {self._tries} times")

    def close(self) -> None:
        """End the workers, whatever they do."""
        self._closed = True
        for worker in self._workers:
            if worker is not None:
                worker.kill()
        with self._freed:  # the threads that waited for them let go
            self._freed.wait_for(lambda: len(self._idle) == self.count, CLOSE_SECONDS)
        for place in self._idle:
            self._end(place)
        self._starter.shutdown(wait=False)

    def _take(self, path: str) -> int:
        """Wait for an idle worker; the same one for the same file where it can be, since it knows its index."""
        usual = zlib.crc32(path.encode(errors="surrogatepass")) % self.count
        with self._freed:
            self._freed.wait_for(lambda: self._idle)
            place = usual if usual in self._idle else min(self._idle)
            self._idle.remove(place)
            return place

    def _give_back(self, place: int) -> None:
        with self._freed:
            self._idle.add(place)
            self._freed.notify_all()

    def _worker(self, place: int, piece: Piece[object]) -> _Worker:
        worker, said = self._workers[place], ""
        for _ in range(STARTS):
            if worker is not None or self._closed:
                break
            worker = self._starter.submit(_Worker, type(piece).__module__, self._memory).result()
            self._workers[place] = worker
            try:
                worker.wait_for_start()
            except Fault as fault:
                said = str(fault)
                self._end(place)
                worker = None
        if self._closed:
            raise Fault("the workers are closed")
        if worker is None:
            raise UserError(f"no worker that reads clips starts ({said}); {self._cure}")
        return worker

    def _end(self, place: int) -> None:
        worker = self._workers[place]
        if worker is not None:
            self._workers[place] = None
            worker.end()


class _Worker:
    """A process that reads a piece at a time.

    Args:
        module: what it loads before it counts as started.
        memory: bytes that a piece may take.
    """

    def __init__(self, module: str, memory: int) -> None:
        self._socket, theirs = socket.socketpair()
        given = [str(theirs.fileno()), str(os.getpid()), str(memory), module]
        # It sees no GPU and has one thread: as many of them as there are spare cores read at once.
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "video_vae.data.reader_process", *given],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=variables,
            )

    def wait_for_start(self) -> None:
        """Wait until it has loaded its libraries.

        Raises:
            Fault: if it does not start.
        """
        try:
            receive(self._socket, time.monotonic() + START_SECONDS)
        except OSError as error:
            raise self._fault(error, START_SECONDS) from None

    def ask(self, piece: Piece[object], seconds: float) -> object:
        """Have a piece read in some seconds, more where its file is large.

        Raises:
            MediaError: if the file cannot be used.
            UserError: what the piece raises.
            Fault: if the worker crashes, takes too long, or more memory than it may.
        """
        began = time.monotonic()
        try:
            self._socket.settimeout(seconds)
            send(self._socket, pickle.dumps(piece))
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                seconds *= 1 + _size(piece.path) / LIMIT_BYTES
            answer = json.loads(receive(self._socket, began + seconds))
            if "error" in answer:
                raise ERRORS[answer["error"]](*answer["args"])
            if "shape" not in answer:
                return answer["value"]
            array: NDArray[Any] = np.empty(answer["shape"], answer["dtype"])
            fill(self._socket, raw(array), began + seconds)
        except OSError as error:
            raise self._fault(error, seconds) from None
        return array

    def _fault(self, error: OSError, seconds: float) -> Fault:
        if isinstance(error, TimeoutError):
            return Fault(f"no answer from the decoder within {seconds:.0f} s")
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=5)
            return Fault(f"the decoder crashed ({signal.Signals(-code).name if code < 0 else f'status {code}'})")
        return Fault("the decoder closed its connection")

    def kill(self) -> None:
        """End the process; whoever waits for its answer gets a Fault."""
        self._process.kill()

    def end(self) -> None:
        """End the process and forget it."""
        self._process.kill()
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=CLOSE_SECONDS)


def _size(path: str) -> int:
    seen = stamp(path)
    return 0 if seen is None else seen[0]


def send(connection: socket.socket, message: bytes) -> None:
    """Send a message, its length first."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


def receive(connection: socket.socket, until: float | None = None) -> bytearray:
    """Return the next message of the other side, as `fill` does."""
    length = bytearray(_LENGTH.size)
    fill(connection, memoryview(length), until)
    message = bytearray(*_LENGTH.unpack(length))
    fill(connection, memoryview(message), until)
    return message


def fill(connection: socket.socket, buffer: memoryview, until: float | None = None) -> None:
    """Fill a buffer by a time on the monotonic clock; the other side may stop in the middle.

    Raises:
        OSError: if the other side is gone (TimeoutError: has not sent it all by then).
    """
    while buffer:
        connection.settimeout(None if until is None else max(0.01, until - time.monotonic()))
        count = connection.recv_into(buffer)
        if not count:
            raise ConnectionResetError
        buffer = buffer[count:]


def raw(array: NDArray[Any]) -> memoryview:
    """Give the bytes of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
