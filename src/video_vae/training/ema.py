"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """Average named parameters: average = decay * average + (1 - decay) * parameter, after each step.

    Early on the decay is (1 + step) / (10 + step) where that is smaller, so that the initial weights fade quickly. The
    averages are float32.

    Args:
        parameters: name -> parameter; followed live.
        decay: in [0, 1].
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.parameters = dict(parameters)
        self.decay = decay
        self.averages = {name: value.detach().float().clone() for name, value in self.parameters.items()}

    def decay_at(self, step: int) -> float:
        """Return the decay used after a step (counted from 1)."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the parameters after a step."""
        current = [value.detach().float() for value in self.parameters.values()]
        torch._foreach_lerp_(list(self.averages.values()), current, 1.0 - self.decay_at(step))

    @torch.no_grad()
    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Restore saved averages.

        Raises:
            KeyError: if one is missing.
        """
        for name, average in self.averages.items():
            average.copy_(averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in place of the parameters for a while; the parameters come back bit for bit."""
        kept = {name: value.detach().clone() for name, value in self.parameters.items()}
        try:
            self._write(self.averages)
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
