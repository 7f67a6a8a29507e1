"""What a training counts from its first start on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Counters:
    """What a resume restores beside the tensors."""

    step: int = 0
    """Steps taken."""
    drawn: int = 0
    """Clips drawn, over all ranks."""
    failed: int = 0
    """Of these, clips that could not be read."""
    skipped: int = 0
    """Steps without an update, for a loss or gradient that was not finite."""
    starts: int = 1
    """Starts of the training, the resumed ones included."""
    seconds: float = 0.0
    """Time trained, over all starts."""
