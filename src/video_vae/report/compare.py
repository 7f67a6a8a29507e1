"""Compare runs clip by clip: paired differences with bootstrap intervals, and the answer in one sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from video_vae.config import STAGES
from video_vae.metrics.summary import statistics
from video_vae.report.tables import BASELINE, Results
from video_vae.report.terms import METRICS, MISSING, SHORT_LABELS, counted, number, stage_label, variant_label

BASELINE_VARIANTS = ("repeat", "mean")


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
        if self.stage != BASELINE:
            name = f"{name}, {stage_label(self.stage).lower()}"
        return f"{name} ({self.experiment})" if with_experiment else name


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean paired difference (first minus second) over the clips that both have, with its 95 % interval."""

    first: Row
    second: Row
    metric: str
    clips: int
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Say whether the first is better, worse, or not told apart."""
        if not (self.low > 0 or self.high < 0):
            return "not told apart"
        return "better" if (self.mean > 0) == METRICS[self.metric].higher_is_better else "worse"


def clip_values(results: Results, row: Row, metric: str) -> pd.Series:
    """Give a metric of every clip of a row, indexed by clip id; empty where there is none."""
    table = results.clips
    match = (table["experiment"] == row.experiment) & (table["stage"] == row.stage)
    match &= table["variant"] == row.variant
    return table[match].set_index("clip_id")[metric].astype(float)


def paired_values(results: Results, first: Row, second: Row, metric: str) -> pd.DataFrame:
    """Give a metric of the clips that two rows both have: two columns, indexed by clip id."""
    return pd.concat([clip_values(results, first, metric), clip_values(results, second, metric)], axis=1).dropna()


def paired_difference(results: Results, first: Row, second: Row, metric: str) -> Difference | None:
    """Compare two rows on the clips that both have; None where there is none."""
    pairs = paired_values(results, first, second, metric)
    if pairs.empty:
        return None
    gaps = (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy(dtype=float)
    found = statistics(gaps, results.config.evaluation.bootstrap, results.config.seed)
    low, high = (float("nan") if found[end] is None else float(found[end] or 0) for end in ("low", "high"))
    mean = float(gaps.mean())
    return Difference(first=first, second=second, metric=metric, clips=len(pairs), mean=mean, low=low, high=high)


def main_pairs(results: Results) -> list[tuple[Row, Row]]:
    """List what is worth comparing within the base run: with the ceiling, the baselines, the stage before."""
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    if final is None:
        return []
    rec = Row(experiment=experiment, stage=final, variant="rec")
    pairs = [(rec, Row(experiment=experiment, stage=final, variant="spatial"))]
    pairs += [(rec, Row(experiment=experiment, stage=BASELINE, variant=variant)) for variant in BASELINE_VARIANTS]
    stages = [stage for stage in STAGES if not clip_values(results, _rec(experiment, stage), "psnr").empty]
    pairs += [(_rec(experiment, b), _rec(experiment, a)) for a, b in itertools.pairwise(stages)]
    return pairs


def _rec(experiment: str, stage: str) -> Row:
    return Row(experiment=experiment, stage=stage, variant="rec")


def experiment_pairs(results: Results) -> list[tuple[Row, Row]]:
    """List every other experiment's reconstructions against the base run's, after each stage that both have scored."""
    base = results.experiments[0]
    scored = {name: results.scored_stages(name) for name in results.experiments}
    return [
        (_rec(name, stage), _rec(base, stage))
        for name in results.experiments[1:]
        for stage in scored[name]
        if stage in scored[base]
    ]


def differences(
    results: Results, pairs: Sequence[tuple[Row, Row]], metrics: Sequence[str] = tuple(METRICS)
) -> list[Difference]:
    """Compare pairs of rows on every metric that both have."""
    found = [paired_difference(results, first, second, metric) for first, second in pairs for metric in metrics]
    return [difference for difference in found if difference is not None]


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


def _with_interval(row: pd.Series, metric: str = "psnr") -> str:
    unit, decimals = METRICS[metric].unit, METRICS[metric].decimals
    text = f"{number(row[metric], decimals)} {unit}".strip()
    if pd.notna(row.get(f"{metric}_low")) and pd.notna(row.get(f"{metric}_high")):
        low, high = (number(row[f"{metric}_{end}"], decimals) for end in ("low", "high"))
        text += f" (95 % interval {low} to {high})"
    return text


def _gap(difference: Difference | None, value: float) -> str:
    mean = value if difference is None else difference.mean
    side = "above" if mean >= 0 else "below"
    text = f"{number(abs(mean))} dB"
    if difference is not None and np.isfinite(difference.low):
        ends = sorted(abs(end) for end in (difference.low, difference.high))
        if difference.low * difference.high > 0:
            text += f" ({number(ends[0])} to {number(ends[1])})"
        else:
            text += f" ({number(difference.low, signed=True)} to {number(difference.high, signed=True)})"
    return f"{text} {side}"


def _against(results: Results, rec: Row, row: pd.Series, other: pd.Series | None) -> str | None:
    if other is None or pd.isna(other.get("psnr")):
        return None
    second = Row(experiment=str(other["experiment"]), stage=str(other["stage"]), variant=str(other["variant"]))
    return _gap(paired_difference(results, rec, second, "psnr"), float(row["psnr"] - other["psnr"]))


def answer(results: Results) -> str:
    """Answer the report's question in one sentence, from metrics.csv and the paired clips."""
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    row = None if final is None else results.row(experiment, final, "rec")
    if row is None or final is None or pd.isna(row.get("psnr")):
        return "There is no answer yet: no reconstruction has been scored."
    rec = _rec(experiment, final)
    text = f"On {counted(int(row['clips']), 'held-out clip')} the video VAE reaches a PSNR of {_with_interval(row)}"
    parts = []
    ceiling = _against(results, rec, row, results.row(experiment, final, "spatial"))
    if ceiling:
        parts.append(f"{ceiling} the spatial VAE alone")
    for variant, name in (("repeat", "repeating every fourth latent"), ("mean", "showing the mean frame")):
        gap = _against(results, rec, row, results.baseline_row(experiment, variant))
        if gap:
            parts.append(f"{gap} {name}")
    if not parts:
        return f"{text}; neither the spatial VAE alone nor the baselines were scored."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text}, which is {listed}."
