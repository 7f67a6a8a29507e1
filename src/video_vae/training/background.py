"""Write checkpoints beside the training: it waits for a copy in memory, a thread writes the file."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import torch
from torch import Tensor

from video_vae.distributed.ranks import Ranks
from video_vae.training.checkpoint import CheckpointStore, Part, State

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Write the checkpoints of a store one after the other in a thread, at most one at a time.

    The copies in memory (pinned, where they come from a GPU) are kept and used again, so that the main process holds
    the state twice. A checkpoint that cannot be written is reported, and the one before it stays; if the next one
    cannot be written either, `save` raises.

    Args:
        store: where they are kept.
        ranks: that each write a part, and call `save` and `holds` together; None where this process writes all.
    """

    def __init__(self, store: CheckpointStore, ranks: Ranks | None = None) -> None:
        self.store = store
        self._ranks = ranks
        self._part = None
        if ranks is not None:
            writing = ranks.broadcast(uuid4().hex)
            self._part = Part(rank=ranks.rank, ranks=ranks.world_size, writing=writing)
        self.seconds = 0.0
        """How long the last one took from copy to rename."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[float]] | None = None
        self._lost: int | None = None
        """Step of the last checkpoint, if it could not be written."""
        self._copies: dict[str, Tensor] = {}

    def save(self, state: State, *, wait: bool) -> None:
        """Copy a state and begin to write it; the caller may then change its tensors.

        Args:
            state: what to write.
            wait: return when it is written; an error is then raised at once, since no later one can make up for it.

        Raises:
            OSError: if it cannot be written, or the one before it and the one before that could not be.
        """
        self._settle(last=False)
        began = time.monotonic()
        copied = replace(state, tensors=self._copied(state.tensors), part=self._part)
        self._pending = state.step, self._pool.submit(self._write, copied, began)
        if wait:
            self._settle(last=True)

    def holds(self, step: int) -> bool:
        """Tell whether a step's checkpoint is on the disk, after what is being written."""
        self._settle(last=False)
        return step in self.store.steps() and step != self._lost

    def close(self) -> None:
        """Wait for what this process is writing; an error is reported, not raised."""
        self._settle(last=False, closing=True)
        self._pool.shutdown()
        self._copies.clear()

    def _copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, value in tensors.items():
            held = self._copies.get(name)
            if held is None or held.shape != value.shape or held.dtype != value.dtype:
                held = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
                self._copies[name] = held
            held.copy_(value, non_blocking=True)
        if any(value.is_cuda for value in tensors.values()):
            torch.cuda.synchronize()
        return {name: self._copies[name] for name in tensors}

    def _write(self, state: State, began: float) -> float:
        self.store.save(state)
        return time.monotonic() - began

    def _settle(self, *, last: bool, closing: bool = False) -> None:
        """Wait for what is being written, and judge an error: the first is reported, a second in a row is raised.

        Args:
            last: none follows, so that any error is raised.
            closing: no error is raised, and the other ranks are not waited for.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = None
        try:
            self.seconds = future.result()
        except OSError as raised:
            error = raised
        if self._ranks is not None and not closing:
            error = self._of_all(self._ranks, step, error)
        if error is None:
            self._lost = None
            return
        if not closing and (last or self._lost is not None):
            raise error
        before = [kept for kept in self.store.steps() if kept != step]
        log.warning(
            "checkpoint of step %d could not be written: %s; the training goes on, %s; the next failure ends it",
            step,
            error,
            f"that of step {before[-1]} is kept" if before else "and there is none before it",
        )
        self._lost = step

    def _of_all(self, ranks: Ranks, step: int, error: OSError | None) -> OSError | None:
        """Return the first rank's error that has one; once all parts are written, older checkpoints are dropped."""
        failed: OSError | None = next((found for found in ranks.gather(error) if found is not None), None)
        if failed is None and ranks.is_main:
            self.store.prune(step)
        ranks.barrier()  # before any rank writes its next part
        return failed
