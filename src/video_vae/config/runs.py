"""The runs of a config, base run and experiments, and which of them share a job. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from video_vae.config.rivals import COMPARE
from video_vae.config.schema import Config, parse_config
from video_vae.config.slices import (
    baselines_slice,
    cached_sizes,
    data_slice,
    evaluate_slice,
    latents_slice,
    reconstruct_slice,
    rival_slice,
    spatial_slice,
    stage_slice,
    start_slice,
)
from video_vae.config.types import STAGES, START, Scored
from video_vae.errors import UserError
from video_vae.provenance import canonical_json


class Runs(dict[str, Config]):
    """The runs of a config by name, the base run first; remembers which of them share a job.

    A dry run asks for an owner a few times per job: were all runs compared each time, its time would grow with the cube
    of their number.
    """

    def __init__(self, runs: Mapping[str, Config]) -> None:
        super().__init__(runs)
        self._owners: dict[str, dict[str, str]] = {}

    def owner(self, name: str, job: str, key: Callable[[Config], Any]) -> str:
        """Return the first run whose job has the same key, JSON-like, as that of a run."""
        if job not in self._owners:
            first: dict[str, str] = {}
            self._owners[job] = {run: first.setdefault(canonical_json(key(self[run])), run) for run in self}
        return self._owners[job][name]


def resolve(config: Config) -> Runs:
    """Return every run of a config by name: the base run first, then each of `experiments` over the base.

    Raises:
        UserError: if an experiment overrides a wrong key.
    """
    base = config.model_dump(mode="json") | {"experiments": {}}
    runs = {config.experiment: parse_config(base)}
    for name, changes in config.experiments.items():
        values = _merge(base, changes) | {"experiment": name}
        runs[name] = parse_config(values, f"experiments.{name}")
    for name, run in runs.items():
        if run.report.against is not None and run.report.against not in runs:
            raise UserError(
                f"experiments.{name}.report.against: no run {run.report.against!r}; there are {', '.join(runs)}"
            )
    return Runs(runs)


def compared_with(runs: Mapping[str, Config], name: str) -> str:
    """Return the run that an experiment is compared with: the one that it names, or else the base run."""
    base = next(iter(runs))
    against = runs[name].report.against
    return base if against in (None, name) else str(against)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    if "epochs" in changes and "steps" not in changes and merged.get("epochs") is not None:
        merged["steps"] = None
    if "steps" in changes and "epochs" not in changes and merged.get("steps") is not None:
        merged["epochs"] = None
    return merged


def data_owner(runs: Runs, name: str) -> str:
    """Return the first run with the same clips."""
    return runs.owner(name, "data", data_slice)


def spatial_owner(runs: Runs, name: str) -> str:
    """Return the first run that has the same spatial VAE trained on the same clips."""
    return runs.owner(name, "spatial", lambda config: [data_slice(config), spatial_slice(config)])


def _lineage(config: Config, stage: Scored) -> list[Any]:
    fresh = config.spatial.pretrained is None and config.model.pretrained is None  # then its spatial VAE is trained
    if stage == START:
        return [data_slice(config) if fresh else None, spatial_slice(config), start_slice(config)]
    stages = STAGES[: STAGES.index(stage) + 1]
    cached = [[latents_slice(config, size) for size in cached_sizes(config, name)] for name in stages]
    return [data_slice(config), spatial_slice(config), cached, *(stage_slice(config, name) for name in stages)]


def stage_owner(runs: Runs, name: str, stage: Scored) -> str:
    """Return the run whose stage, or start, a run shares: the first one with the same settings up to that stage."""
    return runs.owner(name, stage, lambda config: _lineage(config, stage))


class RivalName(str):
    """Name of a rival, where a stage may stand too."""


Part = Scored | RivalName | None
"""What is reconstructed and scored: a stage, a rival, or the baselines where it is None."""


def part_folder(part: Part) -> str:
    """Name the folder of a part of a run below the run's own."""
    return f"{COMPARE}/{part}" if isinstance(part, RivalName) else part or "baselines"


def part_label(part: Part) -> str:
    """Name a part as the column `stage` of metrics.csv does."""
    return COMPARE if isinstance(part, RivalName) else part or "baseline"


def scored_parts(config: Config) -> list[Part]:
    """List all that a run scores."""
    baselines = [None] if config.evaluation.baselines else []
    return [*config.scored, *baselines, *map(RivalName, config.compare)]


def latent_bits(config: Config, part: Part) -> tuple[int, ...]:
    """List the bits per number that a part's latents are quantised to; none but after the last stage."""
    return config.reconstruction.latent_bits if part == config.last else ()


def _reconstruction(config: Config, part: Part) -> list[Any]:
    made: list[Any]
    if part is None:
        made = [data_slice(config), spatial_slice(config), baselines_slice(config)]
    elif not isinstance(part, RivalName):
        made = [data_slice(config), _lineage(config, part), reconstruct_slice(config), latent_bits(config, part)]
    else:
        made = [data_slice(config), rival_slice(config, part) if part in config.compare else None]
    return [*made, config.reconstruction.shards]


def reconstruction_owner(runs: Runs, name: str, part: Part) -> str:
    """Return the first run with the same reconstructions of a part."""
    return runs.owner(name, f"reconstruction {part_folder(part)}", lambda config: _reconstruction(config, part))


def evaluation_owner(runs: Runs, name: str, part: Part) -> str:
    """Return the first run with the same scores of a part."""
    return runs.owner(
        name, f"evaluation {part_folder(part)}", lambda config: [_reconstruction(config, part), evaluate_slice(config)]
    )
