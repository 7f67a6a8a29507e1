"""The learning rate of each step, a function of the step alone."""

from __future__ import annotations

import math

from video_vae.config import Stage


def learning_rate(stage: Stage, step: int, total: int) -> float:
    """Return the learning rate of a step (counted from 1) of a stage of `total` steps.

    The warm-up rises linearly and reaches the peak at step `warmup_steps`. The cosine starts at the peak in the step
    after it and would be zero in the step after the last, so that no step is wasted.
    """
    if step <= stage.warmup_steps:
        return stage.learning_rate * step / stage.warmup_steps
    if stage.schedule == "constant":
        return stage.learning_rate
    done = (step - 1 - stage.warmup_steps) / max(1, total - stage.warmup_steps)
    return stage.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
