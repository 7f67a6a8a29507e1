"""The diagonal Gaussian that an encoder gives."""

from __future__ import annotations

import torch
from torch import Tensor


class DiagonalGaussian:
    """A diagonal Gaussian posterior, from moments stacked on the channel axis (report, "diagonal Gaussian").

    Args:
        moments: mean and log-variance, (B, 2C, ...); the log-variance is clamped to [-30, 20].
    """

    def __init__(self, moments: Tensor) -> None:
        self.mean, logvar = moments.float().chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Return the standard deviation, (B, C, ...)."""
        return torch.exp(0.5 * self.logvar)

    def mode(self) -> Tensor:
        """Return the most likely latent, (B, C, ...)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a latent, (B, C, ...), with noise made on the device of the moments."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """Return the KL divergence from the standard normal, summed over all but the batch axis, (B,)."""
        terms = self.mean.square() + self.logvar.exp() - 1.0 - self.logvar
        return 0.5 * terms.flatten(1).sum(1)
