"""Settings of the three stages of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from video_vae.config.data import Data
from video_vae.config.sizes import Bucket, Buckets
from video_vae.config.types import (
    STAGES,
    AdversarialLoss,
    Count,
    Natural,
    Optimizer,
    Positive,
    Settings,
    Share,
    StageName,
    Unique,
    Weight,
    Width,
    not_bool,
)
from video_vae.errors import UserError

Part = Literal["encoder", "decoder"]


class Discriminator(Settings):
    """A discriminator beside a stage on pixels; null, as in the report, trains without one."""

    channels: Width = 32
    """Channels of its first layer; the next ones have twice and four times as many, and at most eight times."""
    layers: Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=8)] = 3
    """Layers; each halves time, height and width by blur pooling. With 3 a patch is 45 frames of 45x45 pixels."""
    loss: AdversarialLoss = "hinge"
    """What both nets are trained by."""
    weight: Positive = 0.5
    """Weight of the adversarial loss, against the mean absolute error, or against its gradient where `adaptive`."""
    adaptive: bool = True
    """Multiply the weight so that at 1 the adversarial loss pulls at the decoder's last layer as hard as the losses
    that compare frames (VQGAN, equation 7)."""
    start_step: Natural = 0
    """Steps without it at the start of the stage."""
    learning_rate: Positive = 1e-4
    """Peak learning rate of its AdamW; warm-up, schedule and clipping are the stage's."""


class Stage(Settings):
    """One stage of the training: what is trained, on what, with which losses, how long."""

    steps: Count | None = None
    """Optimizer steps; give either this or `epochs`."""
    epochs: Positive | None = None
    """Passes over the training clips, turned into steps for the given CSV."""
    global_batch: Count = 8
    """Clips per optimizer step, over all ranks (the paper: one per GPU)."""
    micro_batch: Count = 1
    """Clips per forward pass on one rank; the rest is accumulated."""
    frames: tuple[Count, Count] = (17, 17)
    """Shortest and longest clip, in frames; drawn uniformly each step, with a random start."""
    image_share: Share = 0.2
    """Share of the steps that take images (real ones, or single frames of videos)."""
    buckets: Buckets | None = None
    """Sizes that its steps take: null for those of `data.buckets`, an empty list for `data.resolution` alone."""
    objective: Literal["latents", "pixels"] = "latents"
    """Reconstruct the spatial latents, or the pixels through the whole pipeline."""
    train: Annotated[tuple[Part, ...], Field(min_length=1), Unique] = ("encoder", "decoder")
    """Halves of the nets that are trained; `[decoder]` alone keeps the latents as they are and costs less."""
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
    discriminator: Discriminator | None = None
    """Train against a 3-D patch discriminator, too (pixels only); the report does not."""
    optimizer: Optimizer = "adamw"
    """`muon` makes the updates of convolutions orthogonal (Jordan et al. 2024), the rest stays AdamW's."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    warmup_steps: Natural = 0
    """Linear warm-up of the learning rate, in steps."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or cosine decay to zero at the last step."""
    weight_decay: Weight = 0.0
    """Decoupled weight decay."""
    grad_clip: Positive | None = 1.0
    """Largest norm of the gradient; null does not clip."""
    ema_decay: Share | None = None
    """Decay of the averaged weights; null keeps none, otherwise they are the ones evaluated and exported."""
    precision: Literal["fp32", "tf32", "bf16"] = "bf16"
    """bf16: autocast of the nets; norms and losses stay fp32. tf32: fp32, its products rounded to 10 bits on GPUs (as
    LPIPS' are with bf16)."""
    workers: Literal["auto"] | Natural = "auto"
    """Processes per rank that read clips ahead: one that crashes, hangs or takes too much memory costs a clip. auto: on
    GPUs the rank's cores but one, at most 16; on processors 0, so that the rank reads by itself."""
    compile: bool = False
    """Compile the nets (torch.compile): faster steps, minutes at the first one of each clip length."""
    channels_last: bool = False
    """Keep the nets' weights with channels last: the layout that tensor cores read."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    shard_optimizer: bool = False
    """Share the optimizer's state out over the ranks (ZeRO, first stage): less memory, the same numbers."""
    non_finite: Literal["stop", "skip"] = "stop"
    """A non-finite loss or gradient stops the run before the optimizer step, or is skipped and counted."""
    validate_every: Count = 1000
    """Steps between validations on the held-out clips; the first and the last step are always validated."""
    validation_clips: Count = 64
    """Most held-out clips validated on, a window of each; a line of the log says where that takes too much time."""
    log_every: Count = 1
    """Steps between lines of log.jsonl."""
    checkpoint_every: Count = 1000
    """Steps between resume checkpoints."""
    checkpoint_minutes: Positive = 30.0
    """Longest time between resume checkpoints, in minutes."""
    keep_checkpoints: Count = 2
    """Number of newest resume checkpoints kept."""

    def sizes(self, data: Data) -> tuple[Bucket, ...]:
        """List the sizes that steps take, at least one: the stage's own, those of `data`, or its only one."""
        buckets = data.buckets if self.buckets is None else self.buckets
        return buckets or (Bucket(resolution=data.resolution),)

    @model_validator(mode="after")
    def _consistent(self) -> Stage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.frames[0] > self.frames[1]:
            raise ValueError(f"frames: shortest {self.frames[0]} is above longest {self.frames[1]}")
        if self.train_spatial and self.objective == "latents":
            raise ValueError("train_spatial needs objective: pixels (its own latents would be the target)")
        if self.identity_weight and "encoder" not in self.train:
            raise ValueError("identity_weight trains the encoder, which train: [decoder] keeps as it is; set it to 0")
        if self.global_batch % self.micro_batch:
            raise ValueError("global_batch must be a multiple of micro_batch")
        if self.shard_optimizer and self.optimizer == "muon":
            raise ValueError("shard_optimizer shares the state of AdamW; with optimizer: muon set it to false")
        return self

    @model_validator(mode="after")
    def _discriminator_fits(self) -> Stage:
        asked = self.discriminator
        if asked is None:
            return self
        if self.objective == "latents":
            raise ValueError("discriminator looks at pixels and needs objective: pixels; set it to null")
        if asked.adaptive and self.compile:
            raise ValueError(
                "discriminator.adaptive looks at the decoder's last layer, which compile: true hides; set one to false"
            )
        if self.steps is not None and asked.start_step >= self.steps:
            raise ValueError(
                f"discriminator.start_step {asked.start_step} leaves none of the {self.steps} steps; start it earlier, "
                "or set discriminator to null"
            )
        return self


_STAGE_DEFAULTS: dict[StageName, dict[str, Any]] = {
    "stage1": {"steps": 380_000, "identity_weight": 1.0},
    "stage2": {"steps": 260_000},
    "stage3": {"steps": 540_000, "global_batch": 24, "frames": (1, 33), "objective": "pixels", "train_spatial": True},
}


class Stages(Settings):
    """The three stages of the report, each starting from the one before; null leaves a stage, or all of them, out."""

    stage1: Stage | None = Stage(**_STAGE_DEFAULTS["stage1"])
    stage2: Stage | None = Stage(**_STAGE_DEFAULTS["stage2"])
    stage3: Stage | None = Stage(**_STAGE_DEFAULTS["stage3"])

    @property
    def trained(self) -> tuple[StageName, ...]:
        """Name the stages that are trained, in their order."""
        return tuple(name for name in STAGES if getattr(self, name) is not None)

    def of(self, stage: StageName) -> Stage:
        """Return the settings of a stage.

        Raises:
            UserError: if it is left out.
        """
        settings: Stage | None = getattr(self, stage)
        if settings is None:
            raise UserError(f"stages.{stage} is null, so that it is not trained; give it settings in the config")
        return settings

    def before(self, stage: StageName) -> StageName | None:
        """Name the trained stage before one; None for the first one."""
        earlier = [name for name in self.trained if STAGES.index(name) < STAGES.index(stage)]
        return earlier[-1] if earlier else None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Keep a stage's own defaults for the keys that a config leaves out."""
        if values is None:
            return dict.fromkeys(STAGES)
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
