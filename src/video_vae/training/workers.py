"""How many workers read for a rank, and how long they may take."""

from __future__ import annotations

import torch

from video_vae.config import Stage
from video_vae.data.readers import LIMIT_SECONDS, Readers
from video_vae.distributed.cores import cores_of_rank
from video_vae.distributed.ranks import Ranks
from video_vae.distributed.watchdog import timeout_seconds

MOST = 16
"""Workers that `auto` starts: as many read 17 frames of 4K in the time that an H100 takes for a step on them."""
TRIES_IN_TIME = 5
"""Workers may hang one after another, so many times, before the other ranks take this one for hanging."""


def started_readers(stage: Stage, ranks: Ranks) -> Readers | None:
    """Return the workers of a stage, none of which runs yet; None where the rank reads by itself."""
    count = automatic(ranks.device.type) if stage.workers == "auto" else stage.workers
    if not count:
        return None
    if ranks.device.type == "cuda":  # the workers have the cores; many threads receive what they read
        torch.set_num_threads(1)
    return Readers(count, seconds=min(LIMIT_SECONDS, timeout_seconds() / TRIES_IN_TIME))


def automatic(device: str) -> int:
    """Return how many workers a rank on a kind of device has by default.

    One core is the rank's own. On processors there are none, by decision: the nets take all cores, and far longer than
    the reading. That was not measured.
    """
    return min(MOST, cores_of_rank() - 1) if device != "cpu" else 0
