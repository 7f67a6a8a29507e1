"""What nets lose to the spatial VAE in windows of several lengths: runs that score the same weights so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from video_vae.config import SCORED
from video_vae.config import runs as config_runs
from video_vae.config.protocols import scored_as
from video_vae.provenance import canonical_json
from video_vae.report.compare import Row, paired_difference
from video_vae.report.tables import Results


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A run's reconstructions in windows of one length, after the last stage that it scores."""

    rec: Row
    frames: int

    @property
    def spatial(self) -> Row:
        """Name the spatial VAE alone on the same windows."""
        return Row(experiment=self.rec.experiment, stage=self.rec.stage, variant="spatial")


def by_length(results: Results) -> dict[str, list[Scored]]:
    """List the runs that differ in `reconstruction.max_frames`, shortest first, by the first run with their weights.

    Weights that are scored in windows of one length only are left out.
    """
    found: dict[str, dict[int, Scored]] = {}
    names: dict[str, str] = {}
    for experiment in results.experiments:
        stage = results.final_stage(experiment)
        frames = scored_as(results.settings[experiment]).reconstruction.max_frames
        if stage is None or frames is None:
            continue
        key = _weights(results, experiment, stage)
        name = names.setdefault(key, experiment)
        rec = Row(experiment=experiment, stage=stage, variant="rec")
        found.setdefault(name, {}).setdefault(frames, Scored(rec=rec, frames=frames))
    return {name: [lengths[key] for key in sorted(lengths)] for name, lengths in found.items() if len(lengths) > 1}


def _weights(results: Results, experiment: str, stage: str) -> str:
    """Name the weights of a run's stage, and how windows go through them but for number and length."""
    owner = config_runs.stage_owner(results.settings, experiment, _scored(stage))
    how = results.settings[experiment].reconstruction.model_dump(mode="json", exclude={"max_frames", "windows"})
    return canonical_json([owner, stage, how])


def _scored(stage: str) -> config_runs.Scored:
    return next(name for name in SCORED if name == stage)


def length_points(found: Mapping[str, list[Scored]], results: Results, metric: str) -> pd.DataFrame:
    """Give the mean paired difference of `rec` less `spatial`, with its interval, for each run and length.

    Columns: weights, frames, mean, low, high.
    """
    rows = []
    for name, lengths in found.items():
        for one in lengths:
            gap = paired_difference(results, one.rec, one.spatial, metric)
            if gap is not None:
                ends = {"mean": gap.mean, "low": gap.low, "high": gap.high}
                rows.append({"weights": name, "frames": one.frames, **ends})
    return pd.DataFrame(rows, columns=["weights", "frames", "mean", "low", "high"])
