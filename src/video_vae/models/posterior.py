"""The diagonal Gaussian that an encoder gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from video_vae.models.blocks import at_least_fp32


class DiagonalGaussian:
    """A diagonal Gaussian posterior, from moments stacked on the channel axis (report, "diagonal Gaussian").

    Args:
        moments: mean and log-variance, (B, 2C, ...); the log-variance is clamped to [-30, 20].
        dtype: of mean, log-variance and samples; what is computed from them is computed in fp32 at least.
    """

    def __init__(self, moments: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.mean, logvar = moments.to(dtype).chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @classmethod
    def joined(cls, parts: Sequence[DiagonalGaussian]) -> DiagonalGaussian:
        """Join the posteriors over consecutive frames to one, along the time axis."""
        moments = [torch.cat([getattr(part, name) for part in parts], dim=2) for name in ("mean", "logvar")]
        return cls(torch.cat(moments, dim=1), moments[0].dtype)

    @property
    def std(self) -> Tensor:
        """Return the standard deviation, (B, C, ...)."""
        return self._std().to(self.logvar.dtype)

    def _std(self) -> Tensor:
        return torch.exp(0.5 * at_least_fp32(self.logvar))

    def mode(self) -> Tensor:
        """Return the most likely latent, (B, C, ...)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a latent, (B, C, ...), with noise made on the device of the generator, or of the moments without one."""
        mean = at_least_fp32(self.mean)
        noise = randn_tensor(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return (mean + self._std() * noise).to(self.mean.dtype)

    def kl(self) -> Tensor:
        """Return the KL divergence from the standard normal, summed over all but the batch axis, (B,)."""
        mean, logvar = at_least_fp32(self.mean), at_least_fp32(self.logvar)
        terms = mean.square() + logvar.exp() - 1.0 - logvar
        return 0.5 * terms.flatten(1).sum(1)
