"""Compare runs clip by clip: paired differences with intervals, and what they say.

A verdict needs three things: at least `MIN_SOURCES` sources, a difference that Holm's correction over all comparisons
of its table leaves significant at 5 %, and a size that matters (`smallest` of `report.terms.METRICS`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from video_vae.config import SCORED
from video_vae.config import runs as config_runs
from video_vae.metrics.intervals import MIN_SOURCES, estimate, holm, source_values
from video_vae.metrics.summary import SOURCE, known_sources
from video_vae.report.tables import BASELINE, COMPARE, Results, part_of
from video_vae.report.terms import METRICS, MISSING, SHORT_LABELS, counted, number, stage_label, variant_label

BASELINE_VARIANTS = ("repeat", "mean")
LEVEL = 0.05
TOO_FEW = "too few sources"
"""Verdict where there are fewer sources than `MIN_SOURCES`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored set of reconstructions."""

    experiment: str
    stage: str
    variant: str

    @property
    def short(self) -> str:
        """Name it in few characters, for the axis of a figure."""
        return stage_label(self.stage) if self.variant == "rec" else SHORT_LABELS.get(self.variant, self.variant)

    def label(self, *, with_experiment: bool) -> str:
        """Name it for people."""
        name = variant_label(self.variant)
        if self.stage not in (BASELINE, COMPARE):
            name = f"{name}, {stage_label(self.stage).lower()}"
        return f"{name} ({self.experiment})" if with_experiment else name


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean paired difference (first minus second) over the clips that both have, with its 95 % interval."""

    first: Row
    second: Row
    metric: str
    clips: int
    sources: int
    """Independent sources of the clips; as many as clips where none are known."""
    mean: float
    low: float
    high: float
    p: float
    """Two-sided p of no difference, Holm's correction over the comparisons made at once included."""

    @property
    def verdict(self) -> str:
        """Say whether the first is better or worse, or why there is no verdict."""
        if self.sources < MIN_SOURCES:
            return TOO_FEW
        if not self.p < LEVEL:
            return "no significant difference"
        if abs(self.mean) < METRICS[self.metric].smallest:
            return "too small to matter"
        return "better" if (self.mean > 0) == METRICS[self.metric].higher_is_better else "worse"


def clip_values(results: Results, row: Row, metric: str) -> pd.Series:
    """Give a metric of every clip of a row, indexed by clip id; empty where there is none."""
    return _rows(results, row).set_index("clip_id")[metric].astype(float)


def _rows(results: Results, row: Row) -> pd.DataFrame:
    table = results.clips
    match = (table["experiment"] == row.experiment) & (table["stage"] == row.stage)
    return table[match & (table["variant"] == row.variant)]


def paired_values(results: Results, first: Row, second: Row, metric: str) -> pd.DataFrame:
    """Give a metric of the clips that two rows both have: two columns, indexed by clip id."""
    return pd.concat([clip_values(results, first, metric), clip_values(results, second, metric)], axis=1).dropna()


def paired_difference(results: Results, first: Row, second: Row, metric: str) -> Difference | None:
    """Compare two rows on the clips that both have; None where there is none."""
    pairs = paired_values(results, first, second, metric)
    if pairs.empty:
        return None
    gaps = (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy(dtype=float)
    found = estimate(gaps, clip_sources(results, first, pairs.index))
    return Difference(first=first, second=second, metric=metric, **asdict(found))


def clip_sources(results: Results, row: Row, clip_ids: pd.Index) -> list[str] | None:
    """Name the source of each of some clips of a row; None where no sources are known."""
    if SOURCE not in results.clips:
        return None
    return known_sources(_rows(results, row).set_index("clip_id").reindex(clip_ids))


def source_count(results: Results, row: Row) -> int:
    """Count the independent sources of a row's clips; the clips where no sources are known."""
    clips = _rows(results, row)
    return len(source_values(np.zeros(len(clips)), known_sources(clips))[0])


def main_pairs(results: Results) -> list[tuple[Row, Row]]:
    """List what is worth comparing within the base run: with the ceiling, rivals, baselines, the stage before."""
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    if final is None:
        return []
    rec = Row(experiment=experiment, stage=final, variant="rec")
    pairs = [(rec, Row(experiment=experiment, stage=final, variant="spatial"))]
    pairs += [(rec, row) for row in (*quantised_rows(results), *rival_rows(results))]
    pairs += [(rec, Row(experiment=experiment, stage=BASELINE, variant=variant)) for variant in BASELINE_VARIANTS]
    return pairs + stage_pairs(results)


def stage_pairs(results: Results) -> list[tuple[Row, Row]]:
    """List the base run's scored stages, each with the one before."""
    experiment = results.experiments[0]
    stages = [stage for stage in SCORED if not clip_values(results, _rec(experiment, stage), "psnr").empty]
    return [(_rec(experiment, b), _rec(experiment, a)) for a, b in itertools.pairwise(stages)]


def quantised_rows(results: Results) -> list[Row]:
    """List the reconstructions of quantised latents of the base run that were scored."""
    base, name = results.experiments[0], results.config.reconstruction.quantised
    final = results.final_stage(base)
    if name is None or final is None or results.row(base, final, name) is None:
        return []
    return [Row(experiment=base, stage=final, variant=name)]


def rival_rows(results: Results) -> list[Row]:
    """List the rivals of the base run that were scored."""
    rows = [Row(experiment=results.experiments[0], stage=COMPARE, variant=name) for name in results.config.compare]
    return [
        row for row in rows if len(_rows(results, row)) or results.row(row.experiment, COMPARE, row.variant) is not None
    ]


def _rec(experiment: str, stage: str) -> Row:
    return Row(experiment=experiment, stage=stage, variant="rec")


def experiment_pairs(results: Results) -> list[tuple[Row, Row]]:
    """List every other experiment's reconstructions against those of the run that it is compared with.

    They are compared after each stage that both have scored. Stages that both share are left out: there is nothing to
    compare.
    """
    scored = {name: results.scored_stages(name) for name in results.experiments}
    others = {name: config_runs.compared_with(results.settings, name) for name in results.experiments[1:]}
    return [
        (_rec(name, stage), _rec(other, stage))
        for name, other in others.items()
        for stage in scored[name]
        if stage in scored.get(other, ()) and not shared(results, (name, other), stage)
    ]


def shared(results: Results, experiments: tuple[str, str], stage: str) -> bool:
    """Tell whether the scores of a stage of two experiments are the same ones."""
    owners = {config_runs.evaluation_owner(results.settings, name, part_of(stage)) for name in experiments}
    return len(owners) == 1


def differences(
    results: Results, pairs: Sequence[tuple[Row, Row]], metrics: Sequence[str] = tuple(METRICS)
) -> list[Difference]:
    """Compare pairs of rows on every metric that both have; p is corrected for all of them."""
    made = [paired_difference(results, first, second, metric) for first, second in pairs for metric in metrics]
    return corrected([difference for difference in made if difference is not None])


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """Correct the p of differences for all that are made at once."""
    values = holm([difference.p for difference in found])
    return [replace(difference, p=p) for difference, p in zip(found, values, strict=True)]


def rule_text(found: Sequence[Difference]) -> str:
    """Say in a note under a table by which rule its verdicts were made."""
    keys = dict.fromkeys(difference.metric for difference in found)
    sizes = [f"{METRICS[key].label} {METRICS[key].smallest:g} {METRICS[key].unit}".strip() for key in keys]
    return (
        f"A verdict needs {MIN_SOURCES} sources, significance at 5 % after Holm's correction for the "
        f"{counted(len(found), 'comparison')} of this table, and a difference of at least {', '.join(sizes)}."
    )


def written_difference(difference: Difference) -> dict[str, str]:
    """Write a difference for a table's cell: `gap`, `gap_interval` (empty where there is none) and `verdict`."""
    decimals = METRICS[difference.metric].decimals
    largest = max((abs(x) for x in (difference.mean, difference.low, difference.high) if np.isfinite(x)), default=0.0)
    if largest > 0:
        # two digits of the largest, where the metric's own decimals would leave zeros
        decimals = max(decimals, min(7, 1 - math.floor(math.log10(largest))))
    ends = [number(end, decimals, signed=True) for end in (difference.low, difference.high)]
    return {
        "gap": number(difference.mean, decimals, signed=True),
        "gap_interval": "" if MISSING in ends else f"{ends[0]} to {ends[1]}",
        "verdict": difference.verdict,
    }
