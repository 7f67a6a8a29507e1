"""Cut a config into what each job reads.

A slice holds only the settings that differ from their defaults, so that a setting added later, or one that a job does
not read, never reruns the job. Imports no torch: the workflow's dry run uses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from video_vae.config.data import Data
from video_vae.config.model import Model
from video_vae.config.protocols import scored_as
from video_vae.config.schema import Config
from video_vae.config.sizes import size_text
from video_vae.config.types import STAGES, Settings, StageName
from video_vae.errors import UserError
from video_vae.provenance import fingerprint

Slice = dict[str, Any]
LISTING = frozenset({"sources", "columns", "root", "packages", "archived", "decode", "reader", "min_frames"})
LISTING |= {"min_size", "split", "pans", "max_failed_share"}
AUGMENTATION = ("data.crop", "data.scales", "data.flip")
"""What training alone sees otherwise: read by the stages, and by the cache of what they train on."""
PREPARING = ("data.prepare", "data.prepare_shards")
"""How training reads pixels: no job reads it but the preparing of clips, and stages that train on them."""
SIZES = "data.buckets"
"""Sizes that training takes: a job that sees frames at one of them reads it as its `data.resolution`."""
_TRAINING = {*AUGMENTATION, *PREPARING, SIZES}
VIEW = tuple(key for name in Data.model_fields if name not in LISTING and (key := f"data.{name}") not in _TRAINING)
"""How frames are seen: read by every job that decodes or stands for frames."""
WINDOWS = ("reconstruction.max_frames", "reconstruction.windows")
"""Which frames of a clip are scored."""
CHUNKS = ("model.chunk_frames", "reconstruction.chunk_frames")
"""Which of those frames are coded together, beside the model's own settings."""
SPATIAL_SOURCE = ("spatial.pretrained", "spatial.subfolder", "spatial.sha256")
PRETRAINED = ("model.pretrained", "model.subfolder", "model.sha256")
NET = tuple(f"model.{name}" for name in Model.model_fields if f"model.{name}" not in PRETRAINED)
"""What a training reads of the net: where it starts from is among its files."""


def without_defaults(settings: Settings, default: Settings) -> Slice:
    """Return the settings that differ from a default, nested, as JSON-like values; `parse_config` turns them back."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    result: Slice = {}
    for name in type(settings).model_fields:
        value, standard = getattr(settings, name), getattr(default, name)
        if value == standard:
            continue
        if isinstance(value, Settings) and isinstance(standard, Settings):
            result[name] = without_defaults(value, standard)
        elif isinstance(value, Settings):  # a section that is null by default
            result[name] = values[name]
        elif isinstance(value, Mapping):
            result[name] = {key: values[name][key] for key in value if value[key] != standard.get(key)}
        else:
            result[name] = settings.model_dump(mode="json", include={name})[name]
    return result


@dataclass(frozen=True, eq=False)
class _Itself:
    """A config as a key of a cache: configs hold mappings, so they have no hash of their own."""

    config: Config

    def __hash__(self) -> int:
        return id(self.config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.config is other.config


@lru_cache(maxsize=4096)
def _changed(key: _Itself) -> Slice:
    """Return what differs from the defaults; every slice of a run is cut from it."""
    return without_defaults(key.config, Config())


@lru_cache(maxsize=4096)
def _scored_as(key: _Itself) -> Config:
    return scored_as(key.config)


def scored(config: Config) -> Config:
    """Return the settings that clips are scored with, the same object for the same config."""
    return _scored_as(_Itself(config))


@lru_cache(maxsize=4096)
def _seen_at(key: _Itself, size: tuple[int, int]) -> Config:
    data = key.config.data.model_copy(update={"resolution": size})
    return key.config.model_copy(update={"data": data})


def seen_at(config: Config, size: Sequence[int] | None) -> Config:
    """Return the settings with which frames are seen at one of the sizes of a training; None takes `data.resolution`.

    Raises:
        UserError: if no stage is trained at it.
    """
    if size is None or tuple(size) == config.data.resolution:
        return config
    known = dict.fromkeys(size for stage in STAGES for size in sizes(config, stage))
    found = next((one for one in known if one == tuple(size)), None)
    if found is None:
        texts = ", ".join(map(size_text, {config.data.resolution: None, **known}))
        raise UserError(f"no stage is trained at {'x'.join(map(str, size))} pixels (data.buckets); known: {texts}")
    return _seen_at(_Itself(config), found)


def pick(config: Config, keys: Iterable[str]) -> Slice:
    """Return the settings under some dotted keys, without those that have their default."""
    changed = _changed(_Itself(config))
    result: Slice = {}
    for key in keys:
        source: Any = changed
        target = result
        *parents, last = key.split(".")
        for part in parents:
            source = source.get(part, {}) if isinstance(source, Mapping) else {}
        if isinstance(source, Mapping) and last in source:
            for part in parents:
                target = target.setdefault(part, {})
            target[last] = deepcopy(source[last])
    return result


def as_text(settings: Slice) -> str:
    """Write a slice, always in the same way, as the text of a file that a job takes in place of a config."""
    return json.dumps(settings, indent=2, sort_keys=True, allow_nan=False) + "\n"


def package_slice(config: Config, name: str) -> Slice:
    """What fetching a package reads."""
    if name not in config.resources:
        raise UserError(f"no package {name!r} under resources; known: {', '.join(config.resources)}")
    return pick(config, [f"resources.{name}"])


def weights_slice(config: Config) -> Slice:
    """What fetching weights by hub id or address reads."""
    flow = [f"evaluation.{name}" for name in ("flow", "flow_weights", "flow_sha256")]
    nets = [f"compare.{name}" for name, rival in config.compare.items() if rival.net is not None]
    return pick(config, [*SPATIAL_SOURCE, *PRETRAINED, *nets, *flow])


def start_slice(config: Config) -> Slice:
    """What making the weights reads that nothing is trained of yet."""
    return pick(config, [*SPATIAL_SOURCE, "model", "seed"])


def data_slice(config: Config) -> Slice:
    """What listing and splitting the clips reads."""
    packages = [f"resources.{name}" for name in config.data.packages]
    fit = ["data.fps", "data.frame_interval", "data.min_frames", "data.min_size"]
    made = ["data.pans", "data.resolution", "data.zoom", *_augmentation(config)] if config.data.pans.clips else []
    return pick(
        config,
        [
            "data.sources",
            "data.columns",
            "data.root",
            "data.packages",
            "data.decode",
            "data.reader",
            *fit,
            *made,
            "data.split",
            "seed",
            *packages,
        ],
    )


def spatial_slice(config: Config) -> Slice:
    """What training the small spatial VAE reads; where a pretrained one is named, also in a model, what names it."""
    if config.model.pretrained is not None:
        return start_slice(config)
    if config.spatial.pretrained is not None:
        return pick(config, SPATIAL_SOURCE)
    return pick(config, [*VIEW, "spatial.pretrained", "spatial.training", "seed"])


def _augmentation(config: Config) -> tuple[str, ...]:
    return AUGMENTATION if config.data.crop == "random" else ("data.crop", "data.flip")


def latents_slice(config: Config, size: Sequence[int] | None = None) -> Slice:
    """What caching the latents reads, of frames at a size."""
    config = seen_at(config, size)
    return pick(config, [*VIEW, *_augmentation(config), "data.max_failed_share", *SPATIAL_SOURCE, "latents.dtype"])


def latents_fingerprint(config: Config, size: Sequence[int] | None = None) -> str:
    """Name a latent cache by all that shapes it: clips, spatial VAE, size, number format, number of shards."""
    return fingerprint([data_slice(config), spatial_slice(config), latents_slice(config, size), config.latents.shards])


def prepare_slice(config: Config, size: Sequence[int] | None = None) -> Slice:
    """What preparing clips reads, at a size."""
    config = seen_at(config, size)
    parts = AUGMENTATION[:2] if config.data.crop == "random" else AUGMENTATION[:1]
    return pick(config, [*VIEW, *parts, "data.prepare"])


def prepared_fingerprint(config: Config, size: Sequence[int] | None = None) -> str:
    """Name a set of prepared clips by all that shapes it: clips, what is seen of them, format, number of shards."""
    return fingerprint([data_slice(config), prepare_slice(config, size), config.data.prepare_shards])


def uses_prepared(config: Config, stage: StageName) -> bool:
    """Tell whether a stage trains on prepared clips."""
    return config.data.prepare != "none" and not uses_cache(config, stage)


def stage_slice(config: Config, stage: StageName) -> Slice:
    """What training a stage reads."""
    own = ["spatial.sample", *NET, f"stages.{stage}", "seed"]
    own += ["data.prepare"] if uses_prepared(config, stage) else []
    settings = getattr(config.stages, stage)
    own += [SIZES] if settings is not None and settings.buckets is None else []
    return pick(config, [*VIEW, *_augmentation(config), "data.max_failed_share", *SPATIAL_SOURCE, *own])


def video_latents_slice(config: Config) -> Slice:
    """What encoding clips for other models to train on reads besides a stage's weights."""
    return pick(config, [*VIEW, "latents.dtype"])


def reconstruct_slice(config: Config) -> Slice:
    """What reconstructing reads besides a stage's weights."""
    how = ("max_frames", "windows", "sample", "chunk_frames", "overlap_frames", "tile", "tile_overlap")
    seen = [*VIEW, *(f"reconstruction.{name}" for name in how)]
    return pick(scored(config), [*seen, "seed"] if config.reconstruction.sample else seen)


def baselines_slice(config: Config) -> Slice:
    """What making the baselines reads."""
    return pick(scored(config), [*VIEW, *WINDOWS, *SPATIAL_SOURCE, *CHUNKS])


def rival_slice(config: Config, name: str) -> Slice:
    """What making a rival's clips reads.

    Raises:
        UserError: if the config names no such rival.
    """
    if name not in config.compare:
        raise UserError(f"no rival {name!r} under compare; known: {', '.join(config.compare) or 'none'}")
    wanted = [*VIEW, *WINDOWS, f"compare.{name}"]
    if config.compare[name].codec is not None:  # what says how many latents a window has
        wanted += ["reconstruction.overlap_frames", *CHUNKS, "model.temporal.temporal_downsample"]
    return pick(scored(config), wanted)


def evaluate_slice(config: Config) -> Slice:
    """What scoring reads."""
    fvd = ("fvd_weights", "fvd_sha256", "fvd_frames")
    names = ("protocol", "metrics", "flow", "flow_weights", "flow_sha256", *fvd, "bootstrap")
    return pick(scored(config), [f"evaluation.{name}" for name in names])


def sizes_slice(config: Config) -> Slice:
    """What decides whether training clips are large enough for the sizes that training takes."""
    own = [f"stages.{stage}.buckets" for stage in STAGES]
    return pick(config, ["data.zoom", "data.crop", "data.scales", SIZES, *own])


def protocol_slice(config: Config) -> Slice:
    """What decides whether clips are long and large enough for the protocol that they are scored by."""
    return pick(config, [*VIEW, *WINDOWS, "evaluation.protocol"])


def statistics_slice(config: Config) -> Slice:
    """What measuring the latents reads besides a stage's weights."""
    return pick(config, [*VIEW, "data.crop"])


def report_slice(config: Config) -> Slice:
    """What the report reads: everything that shapes a result, since it shows the settings of the run."""
    data = config.data.model_copy(update={"archived": False})
    return without_defaults(config.model_copy(update={"data": data}), Config())


def explore_slice(config: Config) -> Slice:
    """What the notebook reads: everything but the texts of the report."""
    return {name: values for name, values in report_slice(config).items() if name != "report"}


def loads_by_name(config: Config) -> bool:
    """Tell whether jobs load weights that are no files here: a spatial VAE by hub id, a flow net by address."""
    source = config.spatial if config.model.pretrained is None else config.model
    hub = source.pretrained is not None and source.place is None
    hub |= any(rival.net is not None and rival.net.place is None for rival in config.compare.values())
    return hub or "://" in (config.evaluation.flow_weights or "")


def uses_cache(config: Config, stage: StageName) -> bool:
    """Tell whether a stage trains on cached latents."""
    settings = getattr(config.stages, stage)
    frozen = settings is not None and settings.objective == "latents" and not settings.train_spatial
    return frozen and config.latents.cache != "off"


def needs_perceptual(config: Config, stage: StageName) -> bool:
    """Tell whether a stage computes LPIPS."""
    settings = getattr(config.stages, stage)
    return settings is not None and settings.objective == "pixels" and settings.perceptual_weight > 0


def sizes(config: Config, stage: StageName) -> tuple[tuple[int, int], ...]:
    """List the sizes that a stage is trained at, in pixels; none where it is not trained."""
    settings = getattr(config.stages, stage)
    return () if settings is None else tuple(bucket.resolution for bucket in settings.sizes(config.data))


def has_buckets(config: Config) -> bool:
    """Tell whether a stage is trained at sizes that the config names beside `data.resolution`."""
    stages = [config.stages.of(name) for name in config.stages.trained]
    return any(config.data.buckets if stage.buckets is None else stage.buckets for stage in stages)


def cached_sizes(config: Config, stage: StageName | None = None) -> list[tuple[int, int]]:
    """List the sizes of the latent caches that a stage, or else any, is trained on."""
    stages = STAGES if stage is None else (stage,)
    return list(dict.fromkeys(size for name in stages if uses_cache(config, name) for size in sizes(config, name)))


def prepared_sizes(config: Config, stage: StageName | None = None) -> list[tuple[int, int]]:
    """List the sizes of the prepared clips that a stage, or else any, is trained on."""
    stages = STAGES if stage is None else (stage,)
    return list(dict.fromkeys(size for name in stages if uses_prepared(config, name) for size in sizes(config, name)))
