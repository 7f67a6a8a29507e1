"""What all ranks must know of a step before its update: one sum over the ranks, once per step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from video_vae.distributed.ranks import Ranks
from video_vae.distributed.stopping import SAVING
from video_vae.training.step import PARTS

SIGNAL_FLAGS = {number: f"signal {number.value}" for number in SAVING}
TIME_UP = "time up"
CHECKPOINT = "checkpoint"
FLAGS = (*SIGNAL_FLAGS.values(), TIME_UP, CHECKPOINT)


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """The same on every rank."""

    losses: Tensor
    """Loss at each position of the global batch: that of its micro-batch."""
    parts: dict[str, float]
    """Parts of the loss, averaged over the global batch."""
    flags: frozenset[str]
    """What at least one rank asks for."""
    drawn: int
    """Clips drawn for this step, the failed ones included."""
    failed: int
    """Clips that could not be read."""


def agree(ranks: Ranks, losses: Tensor, parts: Mapping[str, Tensor], flags: Mapping[str, bool], failed: int) -> Agreed:
    """Sum up what each rank has seen of a step.

    Args:
        ranks: this rank among all.
        losses: loss at each position of the global batch, zero at the other ranks' positions, float64.
        parts: this rank's part of the mean of each part; the same names on all ranks.
        flags: what this rank asks for.
        failed: this rank's clips that could not be read.
    """
    names = [name for name in PARTS if name in parts]
    numbers = [*(float(flags.get(name, False)) for name in FLAGS), float(failed)]
    own = [
        losses.cpu(),
        *(parts[name].detach().double().cpu().view(1) for name in names),
        torch.tensor(numbers).double(),
    ]
    sizes = [len(losses), len(names), len(FLAGS), 1]
    summed, means, asked, failures = ranks.sum(torch.cat(own)).split(sizes)
    return Agreed(
        losses=summed,
        parts=dict(zip(names, means.tolist(), strict=True)),
        flags=frozenset(name for name, count in zip(FLAGS, asked.tolist(), strict=True) if count),
        drawn=len(losses) + int(failures.item()),
        failed=int(failures.item()),
    )
