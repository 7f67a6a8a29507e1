"""The learning rate follows the settings."""

from __future__ import annotations

import pytest

from video_vae.config import Stage
from video_vae.training.schedule import learning_rate


def test_constant_rate_after_a_linear_warm_up() -> None:
    stage = Stage(steps=10, learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(stage, step, 10) for step in (1, 2, 4, 5, 10)] == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_no_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(Stage(steps=3, learning_rate=2e-4), 1, 3) == 2e-4


def test_cosine_falls_from_the_peak_and_wastes_no_step() -> None:
    stage = Stage(steps=12, learning_rate=1.0, warmup_steps=2, schedule="cosine")
    rates = [learning_rate(stage, step, 12) for step in range(1, 13)]
    assert rates[1] == rates[2] == 1.0
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[7] == pytest.approx(0.5)
    assert 0.0 < rates[-1] < 0.03


def test_warm_up_longer_than_the_stage_just_rises() -> None:
    stage = Stage(steps=2, learning_rate=1.0, warmup_steps=4, schedule="cosine")
    assert [learning_rate(stage, step, 2) for step in (1, 2)] == [0.25, 0.5]
