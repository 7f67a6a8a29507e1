"""Write checkpoints beside the training: it waits for a copy in memory, a thread writes the file."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from video_vae.training.checkpoint import CheckpointStore, State

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Write the checkpoints of a store one after the other in a thread, at most one at a time.

    The copies in memory (pinned, where they come from a GPU) are kept and used again, so that the main process holds
    the state twice. A checkpoint that cannot be written is reported, and the one before it stays; if the next one
    cannot be written either, `save` raises.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
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
        copied = replace(state, tensors=self._copied(state.tensors))
        self._pending = state.step, self._pool.submit(self._write, copied, began)
        if wait:
            self._settle(last=True)

    def holds(self, step: int) -> bool:
        """Tell whether a step's checkpoint is on the disk, after what is being written."""
        self._settle(last=False)
        return step in self.store.steps()

    def close(self) -> None:
        """Wait for what is being written; an error is reported, not raised."""
        self._settle(last=False, first=True)
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

    def _settle(self, *, last: bool, first: bool = False) -> None:
        """Wait for what is being written, and judge an error: the first is reported, a second in a row is raised.

        Args:
            last: none follows, so that any error is raised.
            first: an error counts as the first.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            self.seconds = future.result()
            self._lost = None
        except OSError as error:
            if last or (self._lost is not None and not first):
                raise
            self._lost = step
            kept = self.store.steps()
            log.warning(
                "checkpoint of step %d could not be written: %s; the training goes on, %s; the next failure ends it",
                step,
                error,
                f"that of step {kept[-1]} is kept" if kept else "and there is none before it",
            )
