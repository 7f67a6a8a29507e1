"""Keep ranks from waiting forever for a hanging one: find it, name it, and end.

Every rank has a thread that counts, in the launcher's store, how often it was there and how far its work got. A rank
whose count stands still is stopped or gone; if all respond but none progresses, the one that is behind blocks the
others. Time is counted in the thread's own rounds: a job that is suspended as a whole is not taken for hanging.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from video_vae.distributed.parent_death import end_with

TIMEOUT = "VIDEO_VAE_PATIENCE"
"""Environment variable: seconds after which a rank counts as hanging."""
TIMEOUT_SECONDS = 600.0
"""What it is where the variable is not set: more than the slowest checkpoint, compilation or file should take."""
ROUNDS = 60
"""How often the thread looks in that time."""
WATCHERS = 3
"""So many ranks look at all others; any of them can end the rest."""
HUNG_STATUS = 69
"""What the ranks end with that waited in vain (EX_UNAVAILABLE: start again to go on)."""


@dataclass(frozen=True)
class Seen:
    """What a rank says of itself."""

    beats: int
    """Rounds of its thread."""
    marks: int
    """Points in the program that its work reached."""
    place: str
    """The last of them."""
    host: str
    pid: int


def timeout_seconds() -> float:
    """Return how long ranks wait for one that does not answer, in seconds."""
    try:
        return max(1.0, float(os.environ.get(TIMEOUT, "")))
    except ValueError:
        return TIMEOUT_SECONDS


class Watch:
    """Watch over the ranks, from one of them.

    Args:
        rank: this one.
        world_size: number of all.
        in_step: the ranks do the same work at the same time, so that one without progress blocks the others.
    """

    def __init__(self, rank: int, world_size: int, in_step: bool) -> None:
        self._rank, self._in_step = rank, in_step
        self._watched = range(world_size) if rank < WATCHERS else range(rank, rank + 1)
        self._world_size = world_size
        self._timeout = timeout_seconds()
        self._marks, self._place = 0, "the start"
        self._done = threading.Event()
        limit = timedelta(seconds=self._timeout)
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # A connection of its own: the other one is busy while this rank waits.
        self._store = dist.TCPStore(address, port, None, False, limit, wait_for_workers=False)
        self._prefix = f"watch/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/"
        if os.environ.get("TORCHELASTIC_RUN_ID"):
            end_with(os.getppid())
        self._tell(0)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def reached(self, place: str) -> None:
        """Note how far this rank's work got."""
        self._place = place
        self._marks += 1

    def close(self) -> None:
        """Watch no longer."""
        self._done.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        pause = self._timeout / ROUNDS
        idle, marks, beats = 0, -1, 0
        silent = dict.fromkeys(self._watched, 0)
        before: dict[int, Seen] = {}
        while not self._done.wait(pause):
            beats += 1
            idle, marks = (idle + 1 if marks == self._marks else 0), self._marks
            try:
                if self._store.check([f"{self._prefix}end"]):
                    self._end("")
                self._tell(beats)
                now = self._look()
            except (RuntimeError, OSError):  # the launcher is gone, and this process is told by the kernel
                continue
            for rank in self._watched:
                silent[rank] = silent[rank] + 1 if now.get(rank) == before.get(rank) else 0
            before = now
            stopped = [rank for rank in self._watched if silent[rank] >= ROUNDS]
            if stopped:
                self._give_up(now, stopped)
            elif self._in_step and idle >= ROUNDS and len(now) == self._world_size:
                self._give_up(now, [])

    def _tell(self, beats: int) -> None:
        seen = Seen(beats, self._marks, self._place, socket.gethostname(), os.getpid())
        self._store.set(f"{self._prefix}{self._rank}", json.dumps(vars(seen)))

    def _look(self) -> dict[int, Seen]:
        """Read what the ranks say; those that have not begun are left out."""
        keys = {rank: f"{self._prefix}{rank}" for rank in self._watched}
        there = {rank: key for rank, key in keys.items() if self._store.check([key])}
        values: list[Any] = self._store.multi_get(list(there.values())) if there else []
        return {rank: Seen(**json.loads(value)) for rank, value in zip(there, values, strict=True)}

    def _give_up(self, now: dict[int, Seen], stopped: list[int]) -> None:
        waited = f"{self._timeout:.0f} s"
        if stopped:
            names = " and ".join(
                f"rank {rank} on {now[rank].host} (process {now[rank].pid})" if rank in now else f"rank {rank}"
                for rank in stopped
            )
            said = f"no sign of {names} for {waited}: stopped, or the machine is gone"
        else:
            behind = min(now.values(), key=lambda seen: seen.marks)
            held = [rank for rank, seen in now.items() if seen.marks == behind.marks]
            said = f"no progress for {waited}: all ranks wait for each other at {behind.place}"
            if len(held) < len(now):
                names = " and ".join(f"rank {rank} on {now[rank].host}" for rank in held)
                said = f"no progress for {waited}: {names} hangs after {behind.place}, the others wait"
        self._store.set(f"{self._prefix}end", said)
        for rank in stopped:
            if rank in now and now[rank].host == socket.gethostname():
                os.kill(now[rank].pid, signal.SIGKILL)
        self._end(f"{said}; the same command goes on from the last saved step")

    def _end(self, said: str) -> None:
        """Leave at once: the thread that works is stuck where no exception reaches it."""
        if said:
            sys.stderr.write(f"{said}\n")
            sys.stderr.flush()
        os._exit(HUNG_STATUS)
