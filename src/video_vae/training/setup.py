"""Turn a config and files into a task for the trainer, and name the training by all that shapes it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from video_vae.config import Columns, Config, Data, Stage, StageName, Temporal
from video_vae.data.fit import check_buckets, enlargement
from video_vae.data.open_table import read_table
from video_vae.data.prepared import PreparedClips, settings_of
from video_vae.data.readers import Readers
from video_vae.data.sampling import Sampling
from video_vae.data.split import neighbours_warning, not_held_out_by_source
from video_vae.data.table import Clip
from video_vae.distributed.ranks import Ranks
from video_vae.errors import UserError, one_line
from video_vae.losses import PerceptualLoss
from video_vae.models.video import VideoAutoencoderKL
from video_vae.provenance import fingerprint, sha256_path
from video_vae.training.adversarial import Adversary
from video_vae.training.plan import StagePlan, epochs_of, steps_of
from video_vae.training.sources import Opened, open_inputs, source_at, training_source
from video_vae.training.speed import apply_options
from video_vae.training.step import StageLoss
from video_vae.training.task import Task
from video_vae.training.validation import Validator, windows
from video_vae.training.workers import started_readers
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import build_video_vae, check_agrees, load_video_vae
from video_vae.weights.lpips_place import lpips_folder

log = logging.getLogger(__name__)

STATE_FORMAT = 1
"""Raised where the same settings would no longer train the same way."""
FREE_SETTINGS = frozenset(
    {
        "micro_batch",
        "gradient_checkpointing",
        "compile",
        "workers",
        "channels_last",
        "shard_optimizer",
        "non_finite",
        "validate_every",
        "validation_clips",
        "log_every",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_checkpoints",
    }
)
"""Settings of a stage that may change between a training's starts: they do not shape its weights."""
NAMED = 5
"""Most clips that a warning names."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files that a stage is trained from."""

    train: Path
    """Table of the training clips; rows whose split is `test` are not trained on."""
    valid: Path | None = None
    """Table of the held-out clips; the `test` rows of `train` where it is not given."""
    latents: Sequence[Path] = ()
    """Files of the latent cache."""
    prepared: Sequence[Path] = ()
    """Shards of prepared clips."""
    spatial: Path | None = None
    """Folder of the spatial VAE, for a stage that starts from nothing."""
    lpips: Path | None = None
    """Folder of the LPIPS weights."""
    init_from: Path | None = None
    """Folder of the video VAE to start from."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A task, and what names it."""

    task: Task
    fingerprint: str
    """Of all that shapes the trained weights."""
    facts: dict[str, Any]
    """Figures for the run record."""


def set_up(config: Config, name: StageName, inputs: Inputs, ranks: Ranks) -> Setup:
    """Read the tables, build or load the nets, open the caches.

    Raises:
        UserError: if something is missing, or does not fit together.
    """
    stage = config.stages.of(name)
    ranks.share(stage.global_batch, stage.micro_batch, name)
    train, valid = ranks.broadcast(_tables(inputs, config.data.columns) if ranks.is_main else None)
    vae = _model(config, inputs)
    check_buckets(config, train)
    opened = open_inputs(config, stage, vae, train, latents=inputs.latents, prepared=inputs.prepared)
    if ranks.is_main:
        _warn_of_enlarged(train, config.data, stage)
    readers = started_readers(stage, ranks)
    source = training_source(train, config, stage, opened, readers)
    videos = [clip.kind == "video" for clip in train]
    plan = StagePlan(seed=config.seed, name=name, stage=stage, frames=source.frames, videos=videos, data=config.data)
    steps = steps_of(stage, len(train))
    perceptual = _perceptual(name, stage, inputs)
    loss = StageLoss(vae, stage, spatial_sample=config.spatial.sample, perceptual=perceptual).to(ranks.device)
    if stage.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    apply_options(vae, stage, sizes=len(plan.sizes))
    _warn_of_emulation(name, stage, ranks.device)
    task = Task(
        name=name,
        stage=stage,
        steps=steps,
        plan=plan,
        source=source,
        loss=loss,
        validator=_validator(loss, valid, opened, config, plan, ranks, readers),
        max_failed_share=config.data.max_failed_share,
        readers=readers,
        adversary=Adversary.of_stage(name, stage, steps, config.seed, ranks),
    )
    identity = ranks.broadcast(_identity(config, name, train, loss, inputs, opened) if ranks.is_main else None)
    facts = _facts(task, train, valid, opened) | {"lpips_sha256": identity["lpips"]}
    return Setup(task=task, fingerprint=fingerprint(identity), facts=facts)


def computes_bf16(device: torch.device) -> bool:
    """Tell whether convolutions in bf16 are computed as such: on a CPU without AVX-512 they are emulated."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _warn_of_emulation(name: str, stage: Stage, device: torch.device) -> None:
    if stage.precision == "bf16" and not computes_bf16(device):
        said = "%s: this processor emulates bf16, many times slower than fp32; set stages.%s.precision: fp32"
        log.warning(said, name, name)


def _tables(inputs: Inputs, columns: Columns) -> tuple[list[Clip], list[Clip]]:
    rows = read_table(inputs.train, columns)
    train = [clip for clip in rows if clip.split != "test"]
    if not train:
        raise UserError(f"{inputs.train} holds held-out clips only (split: test); give the table of training clips")
    if inputs.valid is None:
        valid = [clip for clip in rows if clip.split == "test"]
    else:
        valid = [clip for clip in read_table(inputs.valid, columns) if clip.split != "train"]
    if warning := neighbours_warning(train, valid):
        log.warning("%s", one_line(warning))
    return train, valid


def _model(config: Config, inputs: Inputs) -> VideoAutoencoderKL:
    if inputs.init_from is None:
        return build_video_vae(config, inputs.spatial)
    vae = load_video_vae(inputs.init_from)
    check_agrees(vae, config.model, str(inputs.init_from), ["scaling_factor"])
    return vae


def _perceptual(name: str, stage: Stage, inputs: Inputs) -> PerceptualLoss | None:
    if stage.objective != "pixels" or not stage.perceptual_weight:
        return None
    try:
        folder = lpips_folder(inputs.lpips)
    except UserError as error:
        raise UserError(f"{name}: {error}; or set stages.{name}.perceptual_weight: 0") from None
    return PerceptualLoss.from_folder(folder, recompute=stage.gradient_checkpointing)


def _validator(
    loss: StageLoss,
    valid: Sequence[Clip],
    opened: Opened,
    config: Config,
    plan: StagePlan,
    ranks: Ranks,
    readers: Readers | None,
) -> Validator | None:
    if not valid:
        log.warning("no held-out clips: nothing is validated; give them by --valid-path")
        return None
    size, clips = config.data.resolution, Opened(caches={}, prepared={})
    cache = opened.caches.get(size) if config.data.crop == "center" else None  # as scores see the clips
    known = cache is not None and all(clip.clip_id in cache or clip.clip_id in cache.failed for clip in valid)
    pixels = source_at(size, valid, config, clips, readers)
    source = source_at(size, valid, config, opened, readers) if known else pixels
    return Validator(
        loss=loss,
        source=source,
        pixels=pixels,
        ranks=ranks,
        threads=readers.count if readers else 0,
        chosen=windows(source, plan.shortest, plan.longest, loss.stage.validation_clips),
    )


def _identity(
    config: Config, name: str, train: Sequence[Clip], loss: StageLoss, inputs: Inputs, opened: Opened
) -> dict[str, Any]:
    """Gather what shapes the trained weights; files by content, so that moving them changes nothing."""
    vae = loss.vae
    # A fresh net is named by what makes it, not by its numbers: they may differ in the last bit between processors.
    fresh = [_architecture(config.model.temporal), weights_sha256(vae.spatial.state_dict())]
    return {
        "format": STATE_FORMAT,
        "stage": [name, _shaping(loss.stage)],
        "seed": config.seed,
        "data": [
            list(config.data.resolution),
            config.data.zoom,
            *Sampling.of(config.data).identity(),
            *_views(config.data),
            *([settings_of(config.data)] if opened.prepared else []),
            *_sizes(config.data, loss.stage),
        ],
        "clips": [[clip.clip_id, clip.source_id, clip.start_frame, clip.num_frames, clip.kind] for clip in train],
        "net": fresh if inputs.init_from is None else sha256_path(inputs.init_from),
        "scaling_factor": vae.config["scaling_factor"],
        "spatial_sample": config.spatial.sample,
        "latents": sorted({dtype for cache in opened.caches.values() for dtype in cache.dtypes}) or None,
        "lpips": None if loss.perceptual is None else weights_sha256(loss.perceptual.state_dict()),
    }


def _architecture(temporal: Temporal) -> dict[str, Any]:
    """What a fresh temporal net is like, without what came later where that changes nothing."""
    later = {"pad_mode"} if temporal.pad_mode == "constant" else set[str]()
    return temporal.model_dump(mode="json", exclude=later)


def _shaping(stage: Stage) -> dict[str, Any]:
    """What of a stage's settings shapes its weights, without what came later where that changes nothing."""
    both = set(stage.train) == {"encoder", "decoder"}
    later = [*(["train"] if both else []), *(["discriminator"] if stage.discriminator is None else [])]
    return stage.model_dump(mode="json", exclude={*FREE_SETTINGS, "buckets", *later})


def _sizes(data: Data, stage: Stage) -> list[Any]:
    """What trainings at other sizes than `data.resolution` are named by as well."""
    buckets = data.buckets if stage.buckets is None else stage.buckets
    total = sum(bucket.share for bucket in buckets)
    return [[[*bucket.resolution, bucket.share / total] for bucket in buckets]] if buckets else []


def _views(data: Data) -> list[Any]:
    """What trainings that see other than the centre are named by as well."""
    return [] if data.crop == "center" and not data.flip else [data.crop, list(data.scales), data.flip]


def _warn_of_enlarged(clips: Sequence[Clip], data: Data, stage: Stage) -> None:
    """Name the clips that are smaller than what the model sees of them."""
    zoom = max(data.scales) if data.crop == "random" else data.zoom
    for height, width in (bucket.resolution for bucket in stage.sizes(data)):
        small = [clip.clip_id for clip in clips if enlargement(clip, (height, width), zoom) > 1]
        if small:
            log.warning(
                "%d of %d clips are enlarged, since they have fewer pixels than the model sees of them (%dx%d, "
                "enlargement %g): %s",
                len(small),
                len(clips),
                height,
                width,
                zoom,
                ", ".join(small[:NAMED]) + (", ..." if len(small) > NAMED else ""),
            )


def _read_as(prepared: Collection[PreparedClips]) -> dict[str, Any] | None:
    """Say which prepared clips a training sees, and how near they are to the clips; None where it sees the clips."""
    if not prepared:
        return None
    decibels = [value for clips in prepared for value in clips.decibels]
    kind = next(clips.kind for clips in prepared)
    return {"prepare": kind, "psnr": round(sum(decibels) / len(decibels), 2) if decibels else None}


def _facts(task: Task, train: Sequence[Clip], valid: Sequence[Clip], opened: Opened) -> dict[str, Any]:
    trained = task.loss.trained()
    epochs = epochs_of(task.stage, task.steps, len(train))
    log.info(
        "%s: %d steps of %d clips are %.3g epochs of %d clips; %d parameters trained",
        task.name,
        task.steps,
        task.stage.global_batch,
        epochs,
        len(train),
        sum(value.numel() for value in trained.values()),
    )
    return {
        "stage": task.name,
        "steps": task.steps,
        "epochs": epochs,
        "clips": len(train),
        "held_out_clips": len(valid),
        "not_held_out_by_source": len(not_held_out_by_source(train, valid)),
        "cached_latents": bool(opened.caches),
        "prepared": _read_as(opened.prepared.values()),
        "sizes": [list(bucket.resolution) for bucket in task.plan.sizes],
        "parameters": sum(value.numel() for value in task.loss.vae.parameters()),
        "trained_parameters": sum(value.numel() for value in trained.values()),
        **({} if task.adversary is None else {"discriminator_parameters": task.adversary.parameters}),
    }
