"""What a trainer is given: one stage on given data."""

from __future__ import annotations

from dataclasses import dataclass

from video_vae.config import Stage
from video_vae.data.readers import Readers
from video_vae.training.adversarial import Adversary
from video_vae.training.datasets import Source
from video_vae.training.plan import StagePlan
from video_vae.training.step import StageLoss
from video_vae.training.validation import Validator


@dataclass(frozen=True, kw_only=True)
class Task:
    """One stage on given data."""

    name: str
    stage: Stage
    steps: int
    """Optimizer steps."""
    plan: StagePlan
    source: Source
    loss: StageLoss
    validator: Validator | None
    max_failed_share: float
    readers: Readers | None = None
    """Workers that read for `source` and `validator`; None reads in this process."""
    adversary: Adversary | None = None
    """The discriminator, where the stage trains with one."""

    def adversary_at(self, step: int) -> Adversary | None:
        """Return the discriminator where it takes part in a step (counted from 1)."""
        return self.adversary if self.adversary is not None and self.adversary.joins(step) else None
