"""Mean and standard deviation of each temporal latent channel over clips, merged over ranks."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from video_vae.config import Config, load_config
from video_vae.data.content import raise_if_source_missing
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import MediaError, iterate_clip
from video_vae.distributed.ranks import started_ranks
from video_vae.errors import UserError
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.latents.cache import LatentCache
from video_vae.models import DiagonalGaussian
from video_vae.progress import progress
from video_vae.provenance import RECORD, recorded, run_record, write_json_atomic
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.weights.hashing import weights_sha256

log = logging.getLogger(__name__)

WINDOW = 33
"""Frames encoded at once where the model has no chunks."""
TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per channel, mergeable without loss of digits (Chan et al., 1979)."""

    count: int
    mean: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Take the moments of (B, C, ...) over all but the channel axis, in float64."""
        flat = values.transpose(0, 1).flatten(1).double().cpu().numpy()
        mean = flat.mean(axis=1)
        return cls(flat.shape[1], mean, np.square(flat - mean[:, None]).sum(axis=1))

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets together."""
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        deviations = self.deviations + other.deviations + np.square(step) * (self.count * other.count / count)
        return Moments(count, mean, deviations)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation per channel (population)."""
        result: NDArray[np.float64] = np.sqrt(self.deviations / self.count)
        return result


@dataclass(kw_only=True)
class Measured:
    """What one rank saw."""

    modes: Moments | None = None
    """Of the posteriors' modes."""
    noise: Moments | None = None
    """Of the posteriors' variances."""
    clips: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, posterior: DiagonalGaussian, frames: int) -> None:
        """Count a posterior over (B, C, T, h, w) of so many frames."""
        modes, noise = Moments.of(posterior.mode()), Moments.of(posterior.std.square())
        self.take(Measured(modes=modes, noise=noise, frames=frames))

    def take(self, other: Measured) -> None:
        """Add the counts of another rank."""
        if other.modes is not None and other.noise is not None:
            self.modes = other.modes if self.modes is None else self.modes.merged(other.modes)
            self.noise = other.noise if self.noise is None else self.noise.merged(other.noise)
        self.clips += other.clips
        self.frames += other.frames
        self.failed |= other.failed


class _Reader:
    """Gives the scaled spatial latents of a clip's windows, from pixels or from the cache."""

    def __init__(self, model: Any, config: Config, cache: LatentCache | None, device: torch.device) -> None:
        self._model = model
        self._data = config.data
        self._cache = cache
        self._device = device
        self._window: int = model.config["chunk_frames"] or WINDOW

    def windows(self, clip: Clip) -> Iterator[Tensor]:
        """Yield (1, 4, t, h, w) for consecutive windows; raises MediaError where the clip cannot be used."""
        if self._cache is not None and clip.clip_id in self._cache.failed:
            raise MediaError("unreadable", self._cache.failed[clip.clip_id])
        frames = Sampling.of(self._data).indices(clip)
        if self._cache is None:
            see = partial(resize_crop, resolution=self._data.resolution, zoom=self._data.zoom)
            for window in iterate_clip(clip, frames, self._window, see):
                yield self._model.encode_spatial(to_tensor(window)[None].to(self._device))
            return
        for start in range(0, len(frames), self._window):
            length = len(frames[start : start + self._window])
            moments = self._cache.window(clip.clip_id, start, length)[None].to(self._device)
            yield DiagonalGaussian(moments).mode() * self._model.config["scaling_factor"]


@torch.inference_mode()
def measure(model: Any, reader: _Reader, clips: Sequence[Clip]) -> Measured:
    """Measure the clips; bad ones are left out and named."""
    measured = Measured()
    for clip in progress(clips, desc="latent statistics", unit="clips"):
        whole = Measured(clips=1)  # counted only if all of the clip can be read
        try:
            for latents in reader.windows(clip):
                whole.add(model.temporal.encode(latents).latent_dist, latents.shape[2])
        except MediaError as error:
            raise_if_source_missing(clip, error)
            log.warning("%s (%s) is left out: %s", clip.clip_id, clip.path, error)
            whole = Measured(failed={clip.clip_id: str(error)})
        measured.take(whole)
    return measured


def run(args: argparse.Namespace) -> None:
    """Measure the statistics and write them as JSON, with a record of the run beside it."""
    started = time.time()
    config = load_config(args.config)
    check_places({args.output: ("shift", "scale"), args.output.with_suffix(f".{RECORD}"): RECORD_TRAITS})
    clips = read_table(args.data_path, config.data.columns)
    with started_ranks(args.device, TIMEOUT) as ranks:
        model: Any = load_checkpoint(args.ckpt_path, config, args.spatial)
        cache = _cache(args, config, model)
        reader = _Reader(model.to(ranks.device), config, cache, ranks.device)
        parts = ranks.gather(measure(model, reader, clips[ranks.rank :: ranks.world_size]))
        if not ranks.is_main:
            return
        result = summary(parts, args.data_path)
        write_json_atomic(args.output, result)
        inputs = {"table": args.data_path, "checkpoint": args.ckpt_path}
        record = run_record(
            "latent-statistics", config, inputs, outputs={"statistics": args.output}, started=started, result=result
        )
        record["inputs"] |= {f"latents_{number}": recorded(path) for number, path in enumerate(args.latents or ())}
        write_json_atomic(args.output.with_suffix(f".{RECORD}"), record)
    sys.stdout.write(f"shift {_short(result['shift'])}  scale {_short(result['scale'])}\n")


def _cache(args: argparse.Namespace, config: Config, model: Any) -> LatentCache | None:
    if not args.latents or config.data.crop == "random":  # the clips are measured as they are scored: at the centre
        return None
    return LatentCache(
        args.latents,
        spatial_sha256=weights_sha256(model.spatial.state_dict()),
        resolution=config.data.resolution,
        zoom=config.data.zoom,
        sampling=Sampling.of(config.data),
    )


def summary(parts: Sequence[Measured], table: Path) -> dict[str, Any]:
    """Merge what the ranks saw: shift and scale per channel, and `sampled_scale`, with the posteriors' own noise.

    Raises:
        UserError: if no clip could be used.
    """
    total = Measured()
    for part in parts:
        total.take(part)
    modes, noise = total.modes, total.noise
    if modes is None or noise is None:
        such = next(iter(total.failed.items()), "none")
        raise UserError(f"no clip of {table} can be used, such as {such}; check its paths")
    return {
        "shift": modes.mean.tolist(),
        "scale": modes.std.tolist(),
        "sampled_scale": np.sqrt(modes.std**2 + noise.mean).tolist(),
        "values_a_channel": modes.count,
        "clips": total.clips,
        "frames": total.frames,
        "failed": dict(sorted(total.failed.items())),
    }


def _short(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
