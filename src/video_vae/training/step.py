"""One forward pass of a stage: what is encoded, what is compared with what, and the weighted loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from video_vae import losses
from video_vae.config import Stage
from video_vae.models.posterior import DiagonalGaussian
from video_vae.models.video import VideoAutoencoderKL
from video_vae.training.adversarial import Adversary
from video_vae.training.speed import autocast

PARTS = ("loss", "reconstruction", "identity", "perceptual", "kl", "l1")
"""What a forward pass reports: the weighted sum, the unweighted losses in the reference's reductions, and `l1`, the
mean absolute error of an element."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What is random in the forward pass of some clips; one entry per clip, so that batching changes nothing."""

    spatial_seeds: Sequence[int]
    """Seeds of the spatial posterior's noise."""
    temporal_seeds: Sequence[int]
    """Seeds of the temporal posterior's noise."""
    scored_frames: Sequence[Sequence[int]]
    """Frames that LPIPS scores."""


def sample(posterior: DiagonalGaussian, seeds: Sequence[int]) -> Tensor:
    """Draw from a posterior over (B,...), each clip with noise of its own seed, made on the posterior's device."""
    # Made whole and contiguous: what a generator fills into a tensor depends on the tensor's strides.
    shape, device = posterior.mean.shape[1:], posterior.mean.device
    generators = (torch.Generator(device).manual_seed(seed) for seed in seeds)
    noise = [torch.randn(shape, generator=generator, device=device) for generator in generators]
    return posterior.mean + posterior.std * torch.stack(noise)


def half_of(name: str) -> str:
    """Tell whether a parameter of the video VAE, by its name, is of an `encoder` or of a `decoder`."""
    parts = name.split(".")
    return "encoder" if {"encoder", "quant_conv"} & set(parts) else "decoder"


class StageLoss(nn.Module):
    """The video VAE with the losses of a stage; this is what is wrapped for several ranks.

    Clips are never cut into chunks. The spatial VAE is frozen unless the stage trains it.

    Args:
        vae: the video VAE.
        stage: settings.
        spatial_sample: draw spatial latents from the posterior instead of taking the mode.
        perceptual: LPIPS, for stages on pixels whose `perceptual_weight` is not 0.
    """

    def __init__(
        self,
        vae: VideoAutoencoderKL,
        stage: Stage,
        *,
        spatial_sample: bool,
        perceptual: losses.PerceptualLoss | None = None,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.stage = stage
        self.spatial_sample = spatial_sample
        self.perceptual = perceptual
        for name, parameter in vae.named_parameters():
            spatial = name.startswith("spatial_vae.")
            parameter.requires_grad_(half_of(name) in stage.train and (stage.train_spatial or not spatial))

    @property
    def trains_encoder(self) -> bool:
        """Tell whether the stage trains the encoders."""
        return "encoder" in self.stage.train

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the stage trains, by their names in the video VAE."""
        return {name: value for name, value in self.vae.named_parameters() if value.requires_grad}

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context that gives the nets the stage's precision."""
        return autocast(self.stage, device)

    def forward(
        self, data: Tensor, latents: bool, images: bool, draws: Draws, adversary: Adversary | None = None
    ) -> dict[str, Tensor]:
        """Return the parts of the loss, averaged over the clips.

        Args:
            data: moments (B,8,T,h,w) of the spatial VAE, or pixels (B,3,T,H,W) in [-1,1].
            latents: `data` are moments.
            images: the clips are single images.
            draws: the noise.
            adversary: judges the reconstructions; its figures, and the term to add to the loss, are returned as well.
        """
        with self.autocast(data.device):
            x_z = self.spatial_latents(data, latents, draws.spatial_seeds if self.spatial_sample else None)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_encoder):
                posterior = self.vae.temporal.encode(x_z).latent_dist
                z = sample(posterior, draws.temporal_seeds)
            reconstruction = self.vae.temporal.decode(z, x_z.shape[2]).sample
            target = x_z
            if self.stage.objective == "pixels":
                with nullcontext() if adversary is None else adversary.watching(self.vae.spatial.decoder.conv_out):
                    target, reconstruction = data, self.vae.decode_spatial(reconstruction)
        parts = {
            "reconstruction": losses.reconstruction_nll(target, reconstruction),
            "kl": losses.kl(posterior),
            "l1": losses.mean_absolute_error(target, reconstruction).detach(),
        }
        if images and self.stage.identity_weight:
            parts["identity"] = losses.identity_loss(z, x_z)
        if self.perceptual is not None:
            parts["perceptual"] = self._perceptual(self.perceptual, target, reconstruction, draws.scored_frames)
        judged = {} if adversary is None else adversary.against(target, reconstruction, self._compared(parts))
        return {**parts, "loss": self.weighted(parts), **judged}

    def _compared(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the parts that compare reconstructions with clips."""
        return self.weighted({name: parts[name] for name in ("reconstruction", "perceptual") if name in parts})

    def spatial_latents(self, data: Tensor, latents: bool, seeds: Sequence[int] | None) -> Tensor:
        """Return the scaled spatial latents (B,4,T,h,w) of moments or pixels, in float32; the mode without seeds."""
        if latents:
            posterior = DiagonalGaussian(data)
        else:
            trained = self.stage.train_spatial and self.trains_encoder
            with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
                posterior = self.vae.spatial_posterior(data)
        drawn = posterior.mode() if seeds is None else sample(posterior, seeds)
        return drawn * self.vae.config["scaling_factor"]

    def weighted(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the parts, each with the stage's weight."""
        weights = {
            "reconstruction": self.stage.reconstruction_weight,
            "identity": self.stage.identity_weight,
            "perceptual": self.stage.perceptual_weight,
            "kl": self.stage.kl_weight,
        }
        return torch.stack([weights[name] * value for name, value in parts.items() if name in weights]).sum()

    def _perceptual(
        self, net: losses.PerceptualLoss, target: Tensor, reconstruction: Tensor, scored: Sequence[Sequence[int]]
    ) -> Tensor:
        pairs = [
            torch.cat([video[row, :, list(frames)].transpose(0, 1) for row, frames in enumerate(scored)])
            for video in (target, reconstruction)
        ]
        return losses.perceptual_nll(net(*pairs), target[0, :, 0].numel())
