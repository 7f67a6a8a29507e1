"""Train a small spatial VAE on random crops of frames and images."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from video_vae.config import Config, Data, SpatialTraining, Stage, load_config
from video_vae.data.content import raise_if_source_missing
from video_vae.data.open_table import read_table
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, resize_crop, to_tensor
from video_vae.data.video import MediaError, read_clip
from video_vae.distributed.ranks import Ranks
from video_vae.distributed.stopping import Stopped, StopRequest
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.foreign import RECORD_TRAITS, raise_if_foreign
from video_vae.losses import PerceptualLoss
from video_vae.metrics.lpips import load_lpips
from video_vae.models.posterior import DiagonalGaussian
from video_vae.progress import progress
from video_vae.provenance import RECORD, fingerprint, path_record, run_record, write_json_atomic
from video_vae.training.checkpoint import CheckpointStore, State
from video_vae.training.optimization import Optimization
from video_vae.weights.loading import check_fits, raise_if_foreign_model, save_model
from video_vae.weights.lpips_place import lpips_folder

LOG = logging.getLogger(__name__)
STORED_SIDE = 512
"""Shorter side that larger images are reduced to in memory, in pixels."""
VALIDATION_FRAMES = 4
"""Frames taken of each held-out clip for the PSNR."""
STATISTICS_CROPS = 512
"""Crops that the latents are normalised on."""


def build(settings: SpatialTraining, seed: int) -> AutoencoderKL:
    """Make a fresh net whose weights are a function of the seed.

    Raises:
        UserError: if it does not fit into memory.
    """

    def make() -> AutoencoderKL:
        """Make the net on the default device."""
        levels = len(settings.block_out_channels)
        return AutoencoderKL(
            block_out_channels=settings.block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=settings.layers_per_block,
            norm_num_groups=settings.norm_num_groups,
            latent_channels=4,
            scaling_factor=1.0,
            # Attention would tie the net to the number of pixels of its training crops.
            mid_block_add_attention=False,
        )

    check_fits(make, "spatial.training")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@dataclass(frozen=True)
class Crops:
    """Random square crops of images and video frames, at random scales."""

    images: Sequence[Frames]
    videos: Sequence[Frames]
    settings: SpatialTraining
    seed: int

    def batch(self, step: int) -> Tensor:
        """Return the crops of a step, (batch, 3, crop, crop) in [-1, 1]."""
        return torch.stack([self._draw(step, position) for position in range(self.settings.batch)])

    def _draw(self, step: int, position: int) -> Tensor:
        rng = np.random.default_rng([self.seed, step, position])
        take_image = bool(self.images) and (not self.videos or rng.random() < self.settings.image_share)
        pool = self.images if take_image else self.videos
        frames = pool[int(rng.integers(len(pool)))]
        frame = frames[rng.integers(len(frames))]
        crop, longest = self.settings.crop, min(frame.shape[:2])
        side = round(crop * (longest / crop) ** rng.random())
        top, left = rng.integers(frame.shape[0] - side + 1), rng.integers(frame.shape[1] - side + 1)
        patch = frame[top : top + side, left : left + side]
        patch = patch[:, ::-1] if rng.random() < 0.5 else patch
        return to_tensor(resize_crop(patch[None], (crop, crop)))[:, 0]


def load_frames(clips: Sequence[Clip], smallest: int) -> tuple[list[Frames], list[Frames]]:
    """Decode images and videos once, large ones reduced to a shorter side of 512 pixels.

    Clips that do not decode, or are smaller than ``smallest`` pixels, are named in the log and left out.
    """
    images: list[Frames] = []
    videos: list[Frames] = []
    for clip in progress(clips, desc="decode", unit="clips"):
        try:
            frames = read_clip(clip)
        except MediaError as error:
            raise_if_source_missing(clip, error)
            LOG.warning("%s left out: %s", clip.path, error)
            continue
        height, width = frames.shape[1:3]
        scale = STORED_SIDE / min(height, width)
        if scale < 1:
            frames = resize_crop(frames, (round(height * scale), round(width * scale)))
        if min(frames.shape[1:3]) >= smallest:
            (images if clip.kind == "image" else videos).append(frames)
    if not images and not videos:
        raise UserError("train-spatial: no usable frame in the table; see rejected.csv beside it")
    return images, videos


def moments(net: AutoencoderKL, x: Tensor) -> DiagonalGaussian:
    """Encode images (B, 3, H, W) in [-1, 1]."""
    return DiagonalGaussian(net.quant_conv(net.encoder(x)))


def as_stage(settings: SpatialTraining) -> Stage:
    """Express the optimization as the settings of a stage: warm-up over 2 % of the steps, cosine decay, an average."""
    return Stage(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=max(1, settings.steps // 50),
        schedule="cosine",
        optimizer=settings.optimizer,
        ema_decay=settings.ema_decay,
    )


class SpatialTrainer:
    """Train the net by L1, KL and what else the settings weigh; average its weights; resume where it was stopped."""

    def __init__(
        self,
        config: Config,
        crops: Crops,
        held_out: Tensor | None,
        store: CheckpointStore,
        perceptual: PerceptualLoss | None = None,
    ) -> None:
        self.settings = config.spatial.training
        self.crops, self.held_out, self.store, self.seed = crops, held_out, store, config.seed
        self.perceptual = perceptual
        # A little faster on CPUs. bf16 is not, on one without a matrix unit: 0.4 s a step of 8 crops, fp32 0.23 s.
        self.net = build(self.settings, config.seed).to(memory_format=torch.channels_last)
        parameters, ranks = dict(self.net.named_parameters()), Ranks(device=torch.device("cpu"))
        stage = as_stage(self.settings)
        self.optimization = Optimization(parameters, stage, self.settings.steps, ranks, (0.9, 0.99))
        if self.optimization.average is None:
            raise ValueError("the settings of the spatial VAE's training always have an average")
        self.average = self.optimization.average
        self.step = 0
        self.log: list[dict[str, Any]] = []

    def train_step(self) -> dict[str, float]:
        """Take one optimizer step; return its losses."""
        self.step += 1
        x = self.crops.batch(self.step).contiguous(memory_format=torch.channels_last)
        posterior = moments(self.net, x)
        noise = torch.Generator().manual_seed(int(fingerprint([self.seed, self.step]), 16) % 2**63)
        losses = self.losses(x, self.net.decode(posterior.sample(noise)).sample, posterior)
        self.optimization.zero_grad()
        losses["loss"].backward()
        norm = self.optimization.gradient_norm()
        if not torch.isfinite(norm):
            raise UserError(
                f"train-spatial: non-finite gradient at step {self.step}; lower spatial.training.learning_rate"
            )
        self.optimization.step(self.step, norm)
        return {name: value.item() for name, value in losses.items()} | {"grad_norm": norm.item()}

    def losses(self, x: Tensor, out: Tensor, posterior: DiagonalGaussian) -> dict[str, Tensor]:
        """Return the unweighted losses of crops (B, 3, H, W), and `loss`, their weighted sum."""
        settings = self.settings
        parts = {"l1": (out - x).abs().mean(), "kl": posterior.kl().mean()}
        weights = {"l1": 1.0, "kl": settings.kl_weight}
        if settings.squared_weight:
            parts["squared"], weights["squared"] = (out - x).square().mean(), settings.squared_weight
        if self.perceptual is not None and self.step % settings.perceptual_every == 0:
            # The crops of a step are independent draws, so that the first ones stand for all.
            first = slice(settings.perceptual_crops)
            parts["lpips"] = self.perceptual(x[first], out[first]).mean()
            weights["lpips"] = settings.perceptual_weight * settings.perceptual_every
        return parts | {"loss": torch.stack([weights[name] * value for name, value in parts.items()]).sum()}

    @torch.no_grad()
    def validate(self) -> float | None:
        """Return the mean PSNR in dB of the net, as its weights are, on the held-out frames."""
        if self.held_out is None:
            return None
        errors = []
        for frame in self.held_out.split(1):
            out = self.net.decode(moments(self.net, frame).mode()).sample.clamp(-1, 1)
            errors.append(((out - frame) / 2).square().mean())
        return float((-10 * torch.log10(torch.stack(errors))).mean())

    def train(self) -> None:
        """Run all steps that are left.

        Raises:
            Stopped: if a signal asked for the end; the state is saved.
        """
        self._resume()
        stop = StopRequest()
        with stop.listening():
            self._take_steps(stop)

    def _take_steps(self, stop: StopRequest) -> None:
        bar = progress(total=self.settings.steps, desc="train-spatial", unit="steps", initial=self.step)
        every = max(1, self.settings.steps // 40)
        while self.step < self.settings.steps:
            began = time.monotonic()
            losses = self.train_step()
            bar.set_postfix(l1=f"{losses['l1']:.4f}", refresh=False)
            bar.update()
            if self.step % every == 0 or self.step == self.settings.steps:
                with self.average.applied():
                    psnr = self.validate()
                row = {"step": self.step, "psnr": psnr, "seconds": time.monotonic() - began, **losses}
                LOG.info("step %(step)d: L1 %(l1).4f, held-out PSNR %(psnr)s dB", row)
                self.log.append(row)
                self._save()
            if stop.signal is not None and self.step < self.settings.steps:
                self._save()
                bar.close()
                raise Stopped(stop.signal, f"stopped at step {self.step}")
        bar.close()

    def _save(self) -> None:
        self.store.save(State(step=self.step, tensors=self.optimization.state(), values={"log": self.log}))

    def _resume(self) -> None:
        state = self.store.newest()
        if state is None:
            return
        self.optimization.load(state.tensors)
        self.step, self.log = state.step, state.values["log"]
        LOG.info("resumed after step %d, from %s", self.step, self.store.path(self.step))

    @torch.no_grad()
    def normalise_latents(self) -> None:
        """Fold mean and scale of the latents into the 1x1 convolutions around them.

        Each latent channel then has mean 0 and variance 1 over training crops, and reconstructions stay the same.
        """
        batches = max(1, STATISTICS_CROPS // self.settings.batch)
        means = torch.cat([moments(self.net, self.crops.batch(step)).mode() for step in range(1, batches + 1)])
        flat = means.double().transpose(0, 1).flatten(1)
        mean, std = flat.mean(1).float(), flat.std(1).float()
        before, after = self.net.quant_conv, self.net.post_quant_conv
        after.bias += after.weight[:, :, 0, 0] @ mean
        after.weight *= std[None, :, None, None]
        before.weight[:4] /= std[:, None, None, None]
        before.bias[:4] = (before.bias[:4] - mean) / std
        before.bias[4:] -= 2 * std.log()


def held_out_frames(clips: Sequence[Clip], data: Data) -> Tensor | None:
    """Take evenly spread frames of the held-out videos, (N, 3, H, W) in [-1, 1]; None where there are none."""
    frames = []
    for clip in clips:
        if clip.kind == "video":
            indices = np.linspace(0, clip.num_frames - 1, VALIDATION_FRAMES).round().astype(int).tolist()
            frames.append(to_tensor(resize_crop(read_clip(clip, indices), data.resolution, data.zoom)).transpose(0, 1))
    return torch.cat(frames) if frames else None


def perceptual_loss(settings: SpatialTraining, lpips: Path | None) -> PerceptualLoss | None:
    """Load LPIPS, from a folder or from where it always lies; None where the settings leave it out."""
    if not settings.perceptual_weight:
        return None
    return PerceptualLoss(load_lpips(lpips_folder(lpips), settings.perceptual_net, spatial=False), settings.batch)


def run(args: argparse.Namespace) -> None:
    """Train the spatial VAE that a config describes and save it with its run record."""
    config = load_config(args.config)
    started = time.time()
    raise_if_foreign_model(args.output)
    raise_if_foreign(args.output / RECORD, RECORD_TRAITS)
    # Gradients that fade towards zero would otherwise slow the CPU down many times.
    torch.set_flush_denormal(True)
    # Sorted by content, so that the order of the table's rows does not change the training.
    columns = config.data.columns
    clips = sorted(read_table(args.data_path, columns), key=lambda clip: (clip.source_id, clip.start_frame))
    described = [
        config.spatial.training.model_dump(mode="json"),
        config.seed,
        [[c.source_id, c.start_frame] for c in clips],
    ]
    perceptual = perceptual_loss(config.spatial.training, args.lpips)
    if perceptual is not None:
        described.append(perceptual.net.sha256)
    name = fingerprint(described)
    store = CheckpointStore((args.state or args.output.parent / "state") / "spatial" / name, name, keep=2)
    crops = Crops(*load_frames(clips, config.spatial.training.crop), config.spatial.training, config.seed)
    held_out = held_out_frames(read_table(args.valid_path, columns), config.data) if args.valid_path else None
    trainer = SpatialTrainer(config, crops, held_out, store, perceptual)
    with store.locked():
        trainer.train()
    inputs = {"train": args.data_path} | ({"test": args.valid_path} if args.valid_path else {})
    if perceptual is not None:
        inputs["lpips"] = lpips_folder(args.lpips) / f"{perceptual.net.kind}.safetensors"
    with trainer.average.applied(), atomic_path(args.output) as folder:
        trainer.normalise_latents()
        save_model(trainer.net, folder)
        record = run_record("train-spatial", config, inputs, started=started, psnr=trainer.validate(), log=trainer.log)
        record["outputs"] = {"model": path_record(folder, args.output)}
        write_json_atomic(folder / RECORD, record)
    store.remove()
