"""Open what a stage's windows are read from, for each size that it is trained at: caches, prepared clips or clips."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.config import Config, Stage
from video_vae.config.sizes import size_text
from video_vae.data.prepared import PreparedClips, noted_size
from video_vae.data.readers import Readers
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.errors import UserError
from video_vae.latents.cache import LatentCache, cached_size
from video_vae.models.video import VideoAutoencoderKL
from video_vae.training.datasets import LatentSource, PixelSource, SizedSource, Source
from video_vae.weights.hashing import weights_sha256

log = logging.getLogger(__name__)

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What training reads in place of the clips, by size; both are empty where it decodes the clips themselves."""

    caches: Mapping[Size, LatentCache]
    prepared: Mapping[Size, PreparedClips]


def open_inputs(
    config: Config,
    stage: Stage,
    vae: VideoAutoencoderKL,
    train: Sequence[Clip],
    *,
    latents: Sequence[Path],
    prepared: Sequence[Path],
) -> Opened:
    """Open the latent caches or the prepared clips of a stage.

    Raises:
        UserError: if files are missing, or were made with other settings.
    """
    caches = _caches(config, stage, latents, vae)
    return Opened(caches=caches, prepared={} if caches else _prepared(config, stage, prepared, train))


def _caches(config: Config, stage: Stage, files: Sequence[Path], vae: VideoAutoencoderKL) -> dict[Size, LatentCache]:
    if stage.objective == "pixels" or config.latents.cache == "off":
        return {}
    if not files:
        if config.latents.cache == "on":
            raise UserError("latents.cache is on and no cache was given; name its files by --latents")
        log.info("no latent cache given: the spatial VAE encodes every step's clips")
        return {}
    digest = weights_sha256(vae.spatial.state_dict())
    return {
        size: LatentCache(
            chosen,
            spatial_sha256=digest,
            resolution=size,
            zoom=config.data.zoom,
            sampling=Sampling.of(config.data),
            crop=config.data.crop,
            scales=config.data.scales,
            flip=config.data.flip,
        )
        for size, chosen in _by_size(config, stage, files, cached_size, "encode-latents", "--latents").items()
    }


def _prepared(config: Config, stage: Stage, files: Sequence[Path], train: Sequence[Clip]) -> dict[Size, PreparedClips]:
    if config.data.prepare == "none":
        return {}
    if not files:
        raise UserError(
            f"data.prepare is {config.data.prepare} and no prepared clips were given; make them by `video-vae "
            "prepare-clips` and name the shards by --prepared, or set it to none"
        )
    opened = {
        size: PreparedClips(chosen, config.data.model_copy(update={"resolution": size}))
        for size, chosen in _by_size(config, stage, files, noted_size, "prepare-clips", "--prepared").items()
    }
    for clips in opened.values():
        clips.check_holds(train)
    return opened


def _by_size(
    config: Config, stage: Stage, files: Sequence[Path], size_of: Callable[[Path], Size], command: str, option: str
) -> dict[Size, list[Path]]:
    """Group files by the size that they hold; one of a size that nothing is seen at is left to be refused as such.

    Raises:
        UserError: if none holds one of the sizes that the stage is trained at.
    """
    wanted = [bucket.resolution for bucket in stage.sizes(config.data)]
    sizes = {file: size_of(file) for file in files}
    strange = [file for file, size in sizes.items() if size not in {*wanted, config.data.resolution}]
    found: dict[Size, list[Path]] = {wanted[0]: strange} if strange else {}
    for file in files:
        if file not in strange:
            found.setdefault(sizes[file], []).append(file)
    missing = next((size for size in wanted if size not in found), None)
    if missing is not None:
        raise UserError(
            f"the stage is trained at {size_text(missing)} pixels, too (data.buckets), and {option} names no files of "
            f"that size; make them by `video-vae {command} --resolution {missing[0]} {missing[1]}`"
        )
    return found


def source_at(size: Size, clips: Sequence[Clip], config: Config, opened: Opened, readers: Readers | None) -> Source:
    """Read windows at a size: of the cache or the prepared clips of that size where they are open."""
    if size in opened.caches:
        return LatentSource(clips, opened.caches[size], readers)
    return PixelSource(clips, size, Sampling.of(config.data), config.data.zoom, opened.prepared.get(size), readers)


def training_source(
    clips: Sequence[Clip], config: Config, stage: Stage, opened: Opened, readers: Readers | None
) -> Source:
    """Read the windows of a stage's steps, each at the size that its step takes."""
    sources = [source_at(bucket.resolution, clips, config, opened, readers) for bucket in stage.sizes(config.data)]
    return sources[0] if len(sources) == 1 else SizedSource(sources)
