"""The sections of the config on what follows the training: reconstruction, metrics, report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from video_vae.config_base import STAGES, Count, Metric, Settings, Sha256, StageName


class Reconstruction(Settings):
    """Reconstruction of the held-out clips."""

    max_frames: Count | None = 33
    """Frames reconstructed of each clip, from its start; null takes all."""
    sample: bool = False
    """Draw from the posteriors (seeded) instead of taking their modes."""
    shards: Count = 1
    """Number of parallel jobs a stage."""
    overlap_frames: Annotated[int, Field(ge=0)] = 0
    """Frames that consecutive chunks of `model.chunk_frames` share, blended: softer borders for more latents."""
    tile: Annotated[int, Field(ge=64, multiple_of=8)] | None = None
    """Side of the square tiles that large frames are encoded and decoded in, in pixels; null takes frames whole."""
    tile_overlap: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    """Pixels that neighbouring tiles share at least, blended; at most half of `tile`."""

    @model_validator(mode="after")
    def _tiles_overlap(self) -> Reconstruction:
        if self.tile is not None and 2 * self.tile_overlap > self.tile:
            raise ValueError(f"tile_overlap {self.tile_overlap} is more than half of tile {self.tile}")
        return self


class Evaluation(Settings):
    """Metrics on the reconstructions."""

    metrics: tuple[Metric, ...] = ("psnr", "ssim", "lpips", "flolpips", "flicker")
    """Metrics to compute."""
    flow: Literal["auto", "pwcnet", "raft", "dis"] = "auto"
    """Optical flow of FloLPIPS; `auto` takes PWC-Net where its weights are given, DIS otherwise."""
    flow_weights: str | None = None
    """File with the flow net's weights (safetensors or what torch saved), or its address with `flow_sha256`."""
    flow_sha256: Sha256 | None = None
    """Hash that the flow weights must have."""
    fvd_weights: str | None = None
    """TorchScript file of the feature net (I3D) of rFVD, which is computed only where one is given."""
    fvd_sha256: Sha256 | None = None
    """Hash that the feature net must have; needed with `fvd_weights`."""
    fvd_frames: Annotated[int, Field(ge=9)] = 16
    """Frames of a sample of rFVD; clips are cut into as many samples as they hold."""
    stages: tuple[StageName, ...] = STAGES
    """Stages whose weights are reconstructed with and scored."""
    baselines: bool = True
    """Score the trivial baselines as well: mean frame, every fourth latent repeated."""
    bootstrap: Count = 1000
    """Resamples for the 95 % intervals over clips."""


class Report(Settings):
    """What the HTML report says of the run."""

    title: str = "Video VAE"
    """Title of the report."""
    question: str = "How well does a 4x8x8 video VAE reconstruct held-out clips?"
    """The question that the report answers, its first line."""
    clips: Count = 12
    """Most clips embedded as players (spread from best to worst); the tables hold all."""
