"""Reconstruction, KL, identity, perceptual and adversarial losses, with the reductions of the published training.

All losses are computed in float32, whatever the autocast. The reference sums the reconstruction loss over the elements
of a frame and averages over frames and clips, so that its gradient is large and the KL weight of 1e-6 small; clipping
and Adam handle the scale. `mean_absolute_error` gives the readable figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_vae.config import AdversarialLoss
from video_vae.metrics.lpips import LPIPS, load_lpips
from video_vae.models.blocks import at_least_fp32


class Posterior(Protocol):
    """A distribution that knows its KL divergence from the standard normal."""

    def kl(self) -> Tensor:
        """Return the divergence of each sample, summed over its elements, (B,)."""


def reconstruction_nll(target: Tensor, reconstruction: Tensor, logvar: float | Tensor = 0.0) -> Tensor:
    """Return the L1 negative log-likelihood: sum(|target - reconstruction| / exp(logvar) + logvar) / (B * T).

    Args:
        target: (B,C,T,H,W), pixels in [-1,1] or spatial latents.
        reconstruction: of the same shape.
        logvar: output log-variance, broadcast over the elements; the published training keeps it at 0.

    Raises:
        ValueError: if the shapes differ.
    """
    if target.shape != reconstruction.shape:
        raise ValueError(f"target {tuple(target.shape)} and reconstruction {tuple(reconstruction.shape)} differ")
    spread = torch.as_tensor(logvar, dtype=torch.float32, device=target.device)
    terms = (target.float() - reconstruction.float()).abs() / spread.exp() + spread
    return terms.sum() / (target.shape[0] * target.shape[2])


def mean_absolute_error(target: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the mean of |target - reconstruction| over all elements, a scalar."""
    return (target.float() - reconstruction.float()).abs().mean()


def kl(posterior: Posterior) -> Tensor:
    """Return the KL divergence from the standard normal: summed over a latent, averaged over the batch."""
    return posterior.kl().float().mean()


def identity_loss(z: Tensor, x_z: Tensor) -> Tensor:
    """Return the L1 loss that ties an image's temporal latents to its spatial latents (report, stage 1).

    Both are (B,4,1,h,w); the reduction is that of `reconstruction_nll`.
    """
    return reconstruction_nll(x_z, z)


def perceptual_nll(distances: Tensor, frame_elements: int) -> Tensor:
    """Reduce LPIPS distances (N,) of single frames as the reference does: mean(distances) * frame_elements.

    The reference adds the weighted distance of a frame to each element of its L1 term *before* the sum over C*H*W
    elements, so a weight of 0.1 weighs 0.1 * LPIPS against the mean absolute error of the frame, at any size. Here the
    distances may belong to a random part of the frames: the mean stays an unbiased estimate of the full one.
    """
    return distances.float().mean() * frame_elements


def generator_loss(logits: Tensor, kind: AdversarialLoss) -> Tensor:
    """Return what a reconstruction is to lower so that it looks real, a mean over each clip's patches, (B,).

    `hinge`: -logits (Lim and Ye 2017). `non_saturating`: -log sigmoid(logits) (Goodfellow et al. 2014, section 3).

    Args:
        logits: of reconstructions, (B,1,T,H,W).
        kind: of the loss.
    """
    found = at_least_fp32(logits)
    return (-found if kind == "hinge" else F.softplus(-found)).flatten(1).mean(dim=1)


def discriminator_loss(logits: Tensor, real: bool, kind: AdversarialLoss) -> Tensor:
    """Return a discriminator's loss on one kind of clips, a mean over each clip's patches, (B,).

    `hinge`: max(0, 1 - logits) where the clips are real, max(0, 1 + logits) where they are not. `non_saturating`: the
    cross entropy, -log sigmoid(logits) and -log sigmoid(-logits). Its whole loss is the mean of that on real clips and
    that on reconstructions.

    Args:
        logits: of clips that are all real or all reconstructed, (B,1,T,H,W).
        real: the clips are real.
        kind: of the loss.
    """
    found = at_least_fp32(logits) if real else -at_least_fp32(logits)
    return (F.relu(1.0 - found) if kind == "hinge" else F.softplus(-found)).flatten(1).mean(dim=1)


class PerceptualLoss(nn.Module):
    """LPIPS with VGG features, by the metric's own net, frozen, always in float32.

    Args:
        net: LPIPS with weights, `LPIPS("vgg")`.
        frames_per_pass: frames scored at once; where `recompute` is set, only one pass's features are kept in memory.
        recompute: recompute the features in the backward pass.
    """

    def __init__(self, net: LPIPS, frames_per_pass: int = 4, recompute: bool = False) -> None:
        super().__init__()
        self.net = net
        self.frames_per_pass = frames_per_pass
        self.recompute = recompute
        self.requires_grad_(False).eval()

    @classmethod
    def from_folder(cls, folder: str | Path, recompute: bool = False) -> PerceptualLoss:
        """Load the weights that `video-vae convert-lpips` left in a folder."""
        return cls(load_lpips(folder, "vgg", spatial=False), recompute=recompute)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stay in evaluation mode: the heads' dropout belongs to their own training."""
        return super().train(False)

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        """Score frames (N,3,H,W) in [-1,1]; returns (N,), gradients flow to the reconstruction."""
        pairs = zip(target.split(self.frames_per_pass), reconstruction.split(self.frames_per_pass), strict=True)
        with torch.autocast(target.device.type, enabled=False):
            return torch.cat([self._score(first.float(), second.float()) for first, second in pairs])

    def _score(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        if self.recompute and reconstruction.requires_grad:
            result: Tensor = checkpoint(self._distance, target, reconstruction, use_reentrant=False)
            return result
        return self._distance(target, reconstruction)

    def _distance(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        layers = self.net.distances(self.net.signed_features(target), self.net.signed_features(reconstruction))
        return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in layers]).sum(dim=0)
