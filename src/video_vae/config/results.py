"""The sections of the config on what follows the training: reconstruction, metrics, report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from video_vae.config.types import (
    MAX,
    STAGES,
    Count,
    Jobs,
    LocalPath,
    Metric,
    Name,
    Natural,
    PathText,
    Prose,
    ProtocolName,
    Scored,
    Settings,
    Sha256,
    Unique,
    address_scheme,
    not_bool,
)

Bits = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=16)]
MIN_FVD_FRAMES = 9
"""Fewest frames that the public feature net of rFVD (I3D) takes."""


class Reconstruction(Settings):
    """Reconstruction of the held-out clips."""

    max_frames: Count | None = 33
    """Frames of a window; null takes each clip whole, as one window."""
    windows: Annotated[Count, Field(le=1000)] = 3
    """Most windows of a clip, spread evenly over it without overlap; the clip's score is their mean."""
    sample: bool = False
    """Draw from the posteriors (seeded) instead of taking their modes."""
    shards: Jobs = 1
    """Number of parallel jobs per stage."""
    chunk_frames: Literal["model"] | Count | None = "model"
    """Frames of the independent chunks that windows are coded in: `model` for `model.chunk_frames`, null for none."""
    overlap_frames: Natural = 0
    """Frames that consecutive chunks share, blended: softer borders for more latents."""
    tile: Annotated[int, BeforeValidator(not_bool), Field(ge=64, le=16_384, multiple_of=8)] | None = None
    """Side of the square tiles that large frames are encoded and decoded in, in pixels; null takes frames whole."""
    tile_overlap: Annotated[int, BeforeValidator(not_bool), Field(ge=8, le=16_384, multiple_of=8)] = 64
    """Pixels that neighbouring tiles share at least, blended; at most half of `tile`."""
    latent_bits: Annotated[tuple[Bits, ...], Unique] = ()
    """Bits per number that the latents of the last stage are quantised to, such as [4, 6, 8]: what each costs and loses
    is measured, the finest is a row of its own (`rec_q8`). Holds the frames of a window in memory."""

    @property
    def quantised(self) -> str | None:
        """Name the variant that is decoded of quantised latents; None where there is none."""
        return f"rec_q{max(self.latent_bits)}" if self.latent_bits else None

    @model_validator(mode="after")
    def _tiles_overlap(self) -> Reconstruction:
        if self.tile is not None and 2 * self.tile_overlap > self.tile:
            raise ValueError(f"tile_overlap {self.tile_overlap} is more than half of tile {self.tile}")
        return self


class Evaluation(Settings):
    """Metrics on the reconstructions."""

    protocol: ProtocolName | None = None
    """Protocol of others, which sets how held-out clips are seen, cut and scored; what is not at its default stays."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1), Unique] = (
        "psnr",
        "ssim",
        "lpips",
        "flolpips",
        "flicker",
    )
    """Metrics to compute."""
    flow: Literal["auto", "pwcnet", "raft", "dis"] = "auto"
    """Optical flow of FloLPIPS, warping error and tOF; `auto` takes PWC-Net where its weights are given, else DIS."""
    flow_weights: PathText | None = None
    """File with the flow net's weights (safetensors or what torch saved), or its https address with `flow_sha256`."""
    flow_sha256: Sha256 | None = None
    """Hash that the flow weights must have."""
    fvd_weights: LocalPath | None = None
    """TorchScript file of the feature net (I3D) of rFVD, which is computed only where one is given."""
    fvd_sha256: Sha256 | None = None
    """Hash that the feature net must have; needed with `fvd_weights`."""
    fvd_frames: Annotated[int, BeforeValidator(not_bool), Field(ge=MIN_FVD_FRAMES, le=MAX)] = 16
    """Frames of a sample of rFVD; clips are cut into as many samples as they hold."""
    stages: Annotated[tuple[Scored, ...], Field(min_length=1), Unique] = STAGES
    """Stages whose weights are scored; `start` is what the first one begins with, and scored where none is trained."""
    baselines: bool = True
    """Score the trivial baselines as well: mean frame, every fourth latent repeated."""
    bootstrap: Annotated[Count, Field(le=1_000_000)] = 1000
    """Resamples of the bootstrap's intervals, which summary.json holds beside those of Student's t."""

    @model_validator(mode="after")
    def _weights_named(self) -> Evaluation:
        scheme = address_scheme(self.flow_weights or "")
        if scheme and scheme != "https":
            raise ValueError(f"flow_weights: a {scheme} address; give an https one, or download the file and name it")
        if "@" in (self.flow_weights or "") and scheme:
            raise ValueError("flow_weights: an address with a user name or password; download the file and name it")
        if scheme and self.flow_sha256 is None:
            raise ValueError("flow_weights: an address needs flow_sha256, the hash of the file")
        if self.flow in ("pwcnet", "raft") and self.flow_weights is None:
            raise ValueError(f"flow: {self.flow} needs its weights; set flow_weights, or flow: dis")
        if self.flow == "dis" and self.flow_weights is not None:
            raise ValueError("flow: dis takes no weights; leave flow_weights out, or set flow: pwcnet")
        if self.fvd_weights is not None and self.fvd_sha256 is None:
            raise ValueError("fvd_weights: its hash is needed as well (fvd_sha256), since the file is code that is run")
        return self


class Report(Settings):
    """What the HTML report says of the run."""

    title: Prose = "Video VAE"
    """Title of the report."""
    question: Prose = "How well does a 4x8x8 video VAE reconstruct held-out clips?"
    """The question that the report answers, its first line."""
    clips: Annotated[Count, Field(le=10_000)] = 12
    """Most clips embedded as players (spread from best to worst); the tables hold all."""
    against: Name | None = None
    """Of an experiment: the run that it is compared with; null for the base run."""
    claim: Prose | None = None
    """Of an experiment: the claim of others, or the question, that it looks at, for the table of findings."""
