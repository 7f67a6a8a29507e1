"""The sections of the config on the nets: the spatial VAE, the temporal VAE, and the video VAE around both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from video_vae.config.types import (
    HUB_ID,
    Count,
    Depth,
    LocalPath,
    Optimizer,
    Positive,
    Real,
    Settings,
    Sha256,
    Share,
    Side,
    Weight,
    Width,
    check_groups,
)
from video_vae.provenance import CHECKOUT


class SpatialTraining(Settings):
    """Training of a small spatial VAE on single frames, used where `spatial.pretrained` is null."""

    block_out_channels: tuple[Width, Width, Width, Width] = (32, 64, 128, 128)
    """Channels of the four levels (8x spatial compression)."""
    layers_per_block: Depth = 1
    """Residual blocks per level."""
    norm_num_groups: Width = 8
    """Groups of the group norms."""
    steps: Count = 6000
    """Optimizer steps."""
    batch: Count = 16
    """Crops per step."""
    crop: Side = 64
    """Side of the square random crops, in pixels."""
    optimizer: Optimizer = "adamw"
    """`muon` makes the updates of convolutions orthogonal (Jordan et al. 2024), the rest stays AdamW's."""
    learning_rate: Positive = 1e-3
    """Peak learning rate (linear warm-up over 2 %, cosine decay to zero)."""
    image_share: Share = 0.5
    """Share of the crops that come from images; the rest are frames of videos."""
    kl_weight: Weight = 1e-6
    """Weight of the KL divergence, summed over a latent, averaged over the batch."""
    squared_weight: Weight = 0.0
    """Weight of the mean squared error against the mean absolute error, pixels in [-1, 1]."""
    perceptual_weight: Weight = 0.0
    """Weight of LPIPS against the mean absolute error; 0 leaves LPIPS out."""
    perceptual_net: Literal["alex", "vgg"] = "vgg"
    """Backbone of that LPIPS; at a crop of 64 `vgg` costs about eighteen times `alex`."""
    perceptual_crops: Count = 2
    """Crops of a batch that LPIPS scores, at most."""
    perceptual_every: Count = 1
    """LPIPS is scored every so many steps, with so many times its weight."""
    ema_decay: Share = 0.998
    """Decay of the averaged weights, which are the ones kept."""

    @model_validator(mode="after")
    def _groups_fit(self) -> SpatialTraining:
        check_groups(self.norm_num_groups, self.block_out_channels, "block_out_channels")
        return self


PIXART = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
"""Hub id of the paper's spatial VAE."""


def _given(pretrained: str | None) -> Path | None:
    """Return what names weights as a path, here or else in this checkout; None for a hub id or nothing."""
    if pretrained is None:
        return None
    given = Path(pretrained)
    if not given.exists() and (CHECKOUT / given).exists():
        return Path(os.path.relpath(CHECKOUT / given))
    hub = HUB_ID.fullmatch(pretrained) is not None and not given.parent.is_dir()
    return None if hub else given


class Spatial(Settings):
    """The spatial VAE: a diffusers AutoencoderKL with 8x compression and 4 channels."""

    pretrained: LocalPath | None = PIXART
    """Hub id, local folder or weights file of an AutoencoderKL; null trains a small one (`spatial.training`)."""
    subfolder: LocalPath | None = None
    """Folder inside the hub repository or local folder; null finds `vae` in the repository of PixArt-Sigma."""
    sha256: Sha256 | None = None
    """Hash that the weights file must have; of shards that of the list that `sha256sum` prints of them."""
    sample: bool = True
    """Draw spatial latents from the posterior in training (evaluation always takes the mode)."""
    training: SpatialTraining = SpatialTraining()

    @property
    def hub_subfolder(self) -> str | None:
        """Return the folder inside a hub repository: that of the default one is known."""
        return "vae" if self.subfolder is None and self.pretrained == PIXART else self.subfolder

    @property
    def given(self) -> Path | None:
        """Return `pretrained` as a path, here or else in this checkout; None for a hub id, or where one is trained.

        OWNER/NAME is a hub's as long as there is no folder OWNER here.
        """
        return _given(self.pretrained)

    @property
    def place(self) -> Path | None:
        """Return where it lies or should lie on this machine; None for a hub id, or where one is trained."""
        given = self.given
        return None if given is None else given / (self.subfolder or "")


class Temporal(Settings):
    """Architecture of the temporal VAE (defaults: Open-Sora VAE v1.2, 309.7 M parameters)."""

    base_channels: Width = 128
    """Channels of the first level."""
    channel_multipliers: Annotated[tuple[Depth, ...], Field(min_length=1, max_length=8)] = (1, 2, 2, 4)
    """Channels of each level, in units of `base_channels`."""
    layers_per_block: Depth = 4
    """Residual blocks per level, and in the middle."""
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    """Halve the frame rate between consecutive levels or not."""
    norm_num_groups: Width = 32
    """Groups of the group norms."""
    norm_scope: Literal["clip", "frame"] = "clip"
    """Group norm statistics over the whole clip (published net) or over each frame (strictly causal, streams)."""
    pad_mode: Literal["constant", "replicate"] = "constant"
    """Time before the first frame: zeros (published net), or the first frame, for lengths that are not 4n + 1."""
    init: Literal["random", "interpolate"] = "random"
    """`interpolate`: start as linear interpolation between every fourth latent instead of at random."""

    @model_validator(mode="after")
    def _levels(self) -> Temporal:
        if len(self.temporal_downsample) != len(self.channel_multipliers) - 1:
            raise ValueError("temporal_downsample needs one entry fewer than channel_multipliers")
        widths = [self.base_channels * factor for factor in self.channel_multipliers]
        check_groups(self.norm_num_groups, widths, "base_channels times channel_multipliers")
        return self


class Model(Settings):
    """The video VAE around both nets."""

    pretrained: LocalPath | None = None
    """Video VAE to start from, with its spatial VAE: a folder, a published checkpoint, a hub id; null: fresh."""
    subfolder: LocalPath | None = None
    """Folder inside the hub repository or local folder of `pretrained`."""
    sha256: Sha256 | None = None
    """Hash that the weights of `pretrained` must have, as `spatial.sha256`."""
    temporal: Temporal = Temporal()
    scaling_factor: Positive = 0.18215
    """Spatial latents are multiplied by this (0.18215 with the released weights; free from scratch)."""
    shift: tuple[Real, Real, Real, Real] = (-0.10, 0.34, 0.27, 0.98)
    """Mean of each latent channel, taken off at inference."""
    scale: tuple[Positive, Positive, Positive, Positive] = (3.85, 2.32, 2.33, 3.06)
    """Standard deviation of each latent channel, divided by at inference."""
    chunk_frames: Count | None = 17
    """Encode and decode in independent chunks of this many frames; null takes clips whole."""

    @property
    def hub_subfolder(self) -> str | None:
        """Return the folder inside a hub repository."""
        return self.subfolder

    @property
    def given(self) -> Path | None:
        """Return `pretrained` as a path, as `Spatial.given`."""
        return _given(self.pretrained)

    @property
    def place(self) -> Path | None:
        """Return where it lies or should lie on this machine; None for a hub id, or where there is none."""
        given = self.given
        return None if given is None else given / (self.subfolder or "")

    @model_validator(mode="after")
    def _named(self) -> Model:
        if self.pretrained is None and (self.subfolder or self.sha256):
            raise ValueError("subfolder and sha256 are of pretrained, which is null; name it, or leave them out")
        return self
