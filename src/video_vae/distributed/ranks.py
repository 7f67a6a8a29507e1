"""Ranks under torchrun, or one rank without it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from video_vae.distributed.cores import usable_cores
from video_vae.distributed.device import pick_device
from video_vae.distributed.watchdog import Watch, timeout_seconds
from video_vae.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all that train together."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""
    device: torch.device
    """Where this process computes."""
    watch: Watch | None = None
    """Ends the ranks when one of them hangs; none where there is one rank only."""

    @property
    def is_main(self) -> bool:
        """Tell whether this is rank 0, the process that writes files."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Tell whether there is more than one process."""
        return self.world_size > 1

    def reached(self, place: str) -> None:
        """Note the progress, for the message where a rank hangs."""
        if self.watch is not None:
            self.watch.reached(place)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a float64 vector over all ranks, in place on the CPU; every rank gets the same."""
        if self.is_distributed:
            moved = values.to(self.device)
            dist.all_reduce(moved)
            return moved.cpu()
        return values

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all ranks in place of each tensor; every rank gets the same."""
        if self.is_distributed and tensors:
            flat = torch.cat([value.flatten() for value in tensors])
            dist.all_reduce(flat)
            parts = (flat / self.world_size).split([value.numel() for value in tensors])
            for value, part in zip(tensors, parts, strict=True):
                value.copy_(part.view_as(value))

    def broadcast(self, value: Any) -> Any:
        """Return what the main rank passes, on every rank."""
        if not self.is_distributed:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank passes, in the order of the ranks."""
        if not self.is_distributed:
            return [value]
        box: list[Any] = [None] * self.world_size
        dist.all_gather_object(box, value)
        return box

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        if self.is_distributed:
            dist.barrier()

    def share(self, global_batch: int, micro_batch: int, stage: str) -> tuple[range, int]:
        """Return this rank's positions of the global batch, and the clips it takes at once.

        Raises:
            UserError: if the batch does not divide.
        """
        local, rest = divmod(global_batch, self.world_size)
        if rest or not local:
            raise UserError(
                f"stages.{stage}.global_batch {global_batch} does not divide over {self.world_size} ranks; "
                f"take a multiple of {self.world_size}, or fewer ranks"
            )
        micro = min(micro_batch, local)
        if local % micro:
            raise UserError(
                f"stages.{stage}.micro_batch {micro_batch} does not divide the {local} clips of a rank; "
                f"take a divisor of {local}"
            )
        return range(self.rank * local, (self.rank + 1) * local), micro


def set_threads(local_world_size: int) -> int:
    """Set torch's threads: OMP_NUM_THREADS, else this rank's part of the cores that the process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = usable_cores()
    threads = int(given) if given.isdigit() and int(given) > 0 else max(1, cores // local_world_size)
    torch.set_num_threads(threads)
    return threads


@contextmanager
def started_ranks(device: str = "auto", timeout: timedelta | None = None) -> Iterator[Ranks]:
    """Join the other ranks (NCCL on GPUs, gloo on CPUs) for a while; one rank where torchrun did not start this.

    `timeout` is how long ranks wait for each other where each does work of its own. Where it is not given they do the
    same work together, and one that gets no further than the others ends them all after VIDEO_VAE_PATIENCE seconds. A
    rank that is stopped ends them in any case.

    Raises:
        UserError: if the device does not exist.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    set_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    place = pick_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world_size == 1:
        yield Ranks(device=place)
        return
    # torch's own limit comes last: it ends the ranks without saying which one hangs.
    limit = timeout or timedelta(seconds=3 * timeout_seconds())
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=limit)
    watch = Watch(dist.get_rank(), world_size, in_step=timeout is None)
    try:
        yield Ranks(rank=dist.get_rank(), world_size=world_size, device=place, watch=watch)
        # Without a barrier a rank that leaves early can abort the others.
        dist.barrier()
    finally:
        watch.close()
        dist.destroy_process_group()
