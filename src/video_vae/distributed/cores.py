"""Processor cores that a rank has. Imports nothing heavy."""

from __future__ import annotations

import os

CORES = "VIDEO_VAE_CORES"
"""Environment variable: cores of each rank, where its job has fewer than it may use; set by the launcher."""


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_rank() -> int:
    """Count the cores of this rank: its part of those that the ranks of its machine share, at least one."""
    share = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    given = os.environ.get(CORES, "")
    return min(share, int(given)) if given.isdigit() and int(given) else share
