"""Validate on held-out clips: fixed windows, posterior modes, so that figures of different steps compare."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from video_vae import losses
from video_vae.config import Stage
from video_vae.data.prefetch import mapped
from video_vae.data.video import MediaError
from video_vae.distributed.ranks import Ranks
from video_vae.progress import progress
from video_vae.training.datasets import Source
from video_vae.training.plan import Window
from video_vae.training.step import StageLoss

log = logging.getLogger(__name__)

_Read = tuple[int, Tensor | None, Tensor | None]
"""Length of a window, the window, and its pixels."""

LENGTHS = 8
"""Windows at least where a stage draws lengths, so that short and long ones are among them."""
MAX_SHARE = 0.02
"""Of the time between two validations, what one may take silently."""
SHOWN = 4
"""Windows that pictures are made of."""
SCORED = 4
"""Most frames of a window that LPIPS scores, evenly spread."""


class Interrupted(Exception):
    """A rank was asked to stop during a validation, which all ranks leave; `flags` are the same on all of them."""

    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(flags)))
        self.flags = flags


def windows(source: Source, shortest: int, longest: int, most: int) -> list[Window]:
    """Choose up to `most` windows of held-out clips, each from its clip's start; of videos where there are some.

    Clips are evenly spread over the table. Where a stage draws lengths, so do its windows: evenly from the shortest to
    the longest, since that is what the stage is trained for.
    """
    rows = [row for row, clip in enumerate(source.clips) if clip.kind == "video"] or list(range(len(source.clips)))
    count = min(most, len(rows) if shortest == longest else max(LENGTHS, len(rows)))
    lengths = [shortest + (longest - shortest) * index // max(1, count - 1) for index in range(count)]
    spread = [
        rows[index * len(rows) // count] if count <= len(rows) else rows[index % len(rows)] for index in range(count)
    ]
    return [
        Window(row=row, start=0, length=min(length, source.frames[row]))
        for row, length in zip(spread, lengths, strict=True)
    ]


def slow_line(stage: Stage, count: int, seconds: float, between: float) -> str:
    """Say what to set where validating `count` windows takes more than 2 % of the seconds between two; else nothing.

    `between` is 0 where no step was taken yet: nothing is known then.
    """
    if seconds <= MAX_SHARE * between or not between:
        return ""
    share = seconds / between
    fewer, steps = int(count * MAX_SHARE / share), math.ceil(stage.validate_every * share / MAX_SHARE)
    cure = f"validation_clips: {fewer} or validate_every: {steps}" if fewer else f"validate_every: {steps}"
    took = f"validating {count} windows takes {seconds:.3g} s, {100 * share:.0f} % of the time between two validations"
    return f"{took}; {cure} keeps it to {100 * MAX_SHARE:.0f} %"


def psnr(target: Tensor, reconstruction: Tensor, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB over all elements, 100 dB at most."""
    error = (target.float() - reconstruction.float()).square().mean().item()
    return float(10 * torch.log10(torch.tensor(peak**2 / max(error, 1e-10 * peak**2))))


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Score a stage's net on held-out clips; the ranks share the clips.

    `l1` is the mean absolute error of an element of what the stage reconstructs. Stages on latents give `psnr_latent`
    (peak: the range of the clip's spatial latents) and, where pixels are asked for, `psnr` and `psnr_spatial`: the PSNR
    in dB of the whole pipeline and of the spatial VAE alone against the frames. Stages on pixels always give `psnr`,
    and `perceptual` (the mean LPIPS-VGG) where they train with it.
    `identity` is the mean absolute difference of temporal and spatial latents on each clip's first frame.
    """

    loss: StageLoss
    source: Source
    pixels: Source
    ranks: Ranks
    chosen: Sequence[Window]
    threads: int = 0
    """That read windows ahead; 0 reads each when it is scored."""
    shown: list[Tensor] = field(default_factory=list)
    """Pictures of the last validation with pixels: a window's middle frame beside its reconstruction, (3, H, 2 W)."""

    def seen(self) -> dict[str, int]:
        """Say what the figures are of: how many windows, and their lengths in frames."""
        lengths = [window.length for window in self.chosen]
        return {"count": len(lengths), "shortest": min(lengths, default=0), "longest": max(lengths, default=0)}

    @torch.no_grad()
    def run(self, with_pixels: bool, asked: Callable[[], frozenset[str]] = frozenset) -> dict[str, float]:
        """Return the mean of each figure over the clips that have it; empty where there are no clips.

        Args:
            with_pixels: score the whole pipeline and the spatial VAE alone, too.
            asked: what this rank is asked to stop by; looked at before each window.

        Raises:
            Interrupted: on all ranks, if one was asked to stop; a validation may take longer than a scheduler waits.
        """
        self.shown.clear()
        windows = self.chosen[self.ranks.rank :: self.ranks.world_size]
        read: Iterable[_Read] = mapped(partial(self._read, with_pixels=with_pixels), windows, self.threads)
        if self.ranks.is_main:
            read = progress(read, total=len(windows), desc="validate", unit="clips", brief=True)
        own: list[dict[str, float]] = []
        flags = asked()
        for length, data, frames in () if flags else read:
            own.append(self._score(length, data, frames, with_pixels))
            flags = asked()
            if flags:
                break
        parts = self.ranks.gather((own, flags))
        if flags := frozenset().union(*(part[1] for part in parts)):
            raise Interrupted(flags)
        gathered: dict[str, list[float]] = defaultdict(list)
        for figures in (figures for part in parts for figures in part[0]):
            for name, value in figures.items():
                gathered[name].append(value)
        return {name: sum(values) / len(values) for name, values in sorted(gathered.items())}

    def _score(self, length: int, data: Tensor | None, frames: Tensor | None, with_pixels: bool) -> dict[str, float]:
        self.ranks.reached("the validation")
        if data is None:
            return {}
        data = data[None].to(self.ranks.device)
        vae, stage = self.loss.vae, self.loss.stage
        figures: dict[str, float] = {}
        with self.loss.autocast(self.ranks.device):
            x_z = self.loss.spatial_latents(data, self.source.latents, None)
            latents = vae.temporal.decode(vae.temporal.encode(x_z).latent_dist.mode(), length).sample.float()
            if stage.identity_weight:
                z = vae.temporal.encode(x_z[:, :, :1]).latent_dist.mode()
                figures["identity"] = losses.mean_absolute_error(x_z[:, :, :1], z).item()
            if stage.objective == "latents":
                figures["l1"] = losses.mean_absolute_error(x_z, latents).item()
                figures["psnr_latent"] = psnr(x_z, latents, (x_z.max() - x_z.min()).item())
            if frames is not None:
                figures |= self._pixels(frames[None].to(self.ranks.device), latents, x_z if with_pixels else None)
        return figures

    def _pixels(self, frames: Tensor, latents: Tensor, x_z: Tensor | None) -> dict[str, float]:
        decoded = self.loss.vae.decode_spatial(latents).float().clamp(-1, 1)
        figures = {"psnr": psnr(frames, decoded, 2.0)}
        if x_z is not None and len(self.shown) < SHOWN:
            middle = frames.shape[2] // 2
            self.shown.append(torch.cat([frames[0, :, middle].float(), decoded[0, :, middle]], dim=2).cpu() / 2 + 0.5)
        if self.loss.stage.objective == "pixels":
            figures["l1"] = losses.mean_absolute_error(frames, decoded).item()
        if self.loss.perceptual is not None:
            scored = torch.linspace(0, frames.shape[2] - 1, min(SCORED, frames.shape[2])).long()
            pair = (video[0, :, scored].transpose(0, 1) for video in (frames, decoded))
            figures["perceptual"] = self.loss.perceptual(*pair).mean().item()
        if x_z is not None:
            figures["psnr_spatial"] = psnr(frames, self.loss.vae.decode_spatial(x_z).float().clamp(-1, 1), 2.0)
        return figures

    def _read(self, window: Window, *, with_pixels: bool) -> _Read:
        """Read a window, and its pixels where they are asked for; None where the clip cannot be used."""
        data = _read(self.source, window)
        wanted = data is not None and (with_pixels or self.loss.stage.objective == "pixels")
        return window.length, data, _read(self.pixels, window) if wanted else None


def _read(source: Source, window: Window) -> Tensor | None:
    try:
        return source.read(window)
    except MediaError as error:
        log.warning("validation leaves out %s: %s", source.clips[window.row].path, error)
        return None
