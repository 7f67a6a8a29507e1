"""What all ranks must know of a step before its update: one sum over the ranks, once per step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from video_vae.distributed.ranks import Ranks
from video_vae.distributed.stopping import SAVING
from video_vae.errors import TIME_UP_STATUS
from video_vae.training.adversarial import FIGURES
from video_vae.training.step import PARTS

SIGNAL_FLAGS = {number: f"signal {number.value}" for number in SAVING}
TIME_UP = "time up"
CHECKPOINT = "checkpoint"
FLAGS = (*SIGNAL_FLAGS.values(), TIME_UP, CHECKPOINT)


def status_of(flags: frozenset[str]) -> int | None:
    """Return the exit status that flags ask for: 128 + a signal's number, 75 where the time is up; else None."""
    for number, name in SIGNAL_FLAGS.items():
        if name in flags:
            return 128 + number
    return TIME_UP_STATUS if TIME_UP in flags else None


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """The same on every rank."""

    losses: Tensor
    """Loss at each position of the global batch: that of its micro-batch."""
    parts: dict[str, float]
    """Parts of the loss, averaged over the global batch."""
    adversarial: dict[str, float]
    """Figures of the adversarial part, averaged alike; none where there is none."""
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
    names = [name for name in (*PARTS, *FIGURES) if name in parts]
    numbers = [*(float(flags.get(name, False)) for name in FLAGS), float(failed)]
    own = [
        losses.cpu(),
        *(parts[name].detach().double().cpu().view(1) for name in names),
        torch.tensor(numbers).double(),
    ]
    sizes = [len(losses), len(names), len(FLAGS), 1]
    summed, means, asked, failures = ranks.sum(torch.cat(own)).split(sizes)
    averaged = dict(zip(names, means.tolist(), strict=True))
    return Agreed(
        losses=summed,
        parts={name: value for name, value in averaged.items() if name in PARTS},
        adversarial={name: value for name, value in averaged.items() if name in FIGURES},
        flags=frozenset(name for name, count in zip(FLAGS, asked.tolist(), strict=True) if count),
        drawn=len(losses) + int(failures.item()),
        failed=int(failures.item()),
    )
