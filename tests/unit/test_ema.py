"""Averaged weights."""

from __future__ import annotations

import pytest
import torch

from video_vae.training.ema import WeightAverage


def test_average_follows_its_formula() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage({"w": weight}, decay=0.5)
    expected = torch.zeros(3)
    for step in range(1, 20):
        weight.data.fill_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.averages["w"], expected)


def test_application_is_undone_bit_for_bit_even_after_an_error() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    before = weight.detach().clone()
    average = WeightAverage({"w": weight}, decay=0.9)
    weight.data.add_(1.0)
    after = weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), average.applied():
        assert torch.equal(weight, before)
        raise RuntimeError("inside")
    assert torch.equal(weight, after)


def test_loading_names_what_is_missing() -> None:
    average = WeightAverage({"w": torch.zeros(1)}, decay=0.9)
    average.load({"w": torch.ones(1)})
    assert average.averages["w"].item() == 1.0
    with pytest.raises(KeyError, match="w"):
        average.load({})
