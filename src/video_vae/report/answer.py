"""The answer to the report's question in one sentence, from metrics.csv and the paired clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from video_vae.config import START, Config, Stage
from video_vae.metrics.intervals import MIN_SOURCES
from video_vae.report.compare import (
    TOO_FEW,
    Difference,
    Row,
    clip_values,
    corrected,
    differences,
    paired_difference,
    rival_rows,
    source_count,
    stage_pairs,
    written_difference,
)
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, counted, number, stage_label

FEW_STEPS = 0.01
"""Share of the paper's steps up to which a training is too short for its stages to differ."""


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
    unsure = difference is not None and difference.verdict not in ("better", "worse", TOO_FEW)
    return f"{text} {side}" if not unsure or difference is None else f"{text}, {difference.verdict}, {side}"


def answer(results: Results) -> str:
    """Answer the report's question in a sentence, and say why there is no verdict where there is none."""
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    row = None if final is None else results.row(experiment, final, "rec")
    if row is None or final is None or pd.isna(row.get("psnr")):
        return "There is no answer yet: no reconstruction has been scored."
    rec = Row(experiment=experiment, stage=final, variant="rec")
    sources, clips = source_count(results, rec), int(row["clips"])
    text = f"On {counted(clips, 'held-out clip')}"
    text += f" from {counted(sources, 'source')}" if 0 < sources < clips else ""
    text += f" the video VAE reaches a PSNR of {_with_interval(row)}"
    parts = _gaps(results, rec, row)
    if not parts:
        return f"{text}; neither the spatial VAE alone nor the baselines were scored."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text}, which is {listed}.{_too_few(sources)}"


def _gaps(results: Results, rec: Row, row: pd.Series) -> list[str]:
    """Write how far the final reconstructions are from the ceiling, each rival and each baseline."""
    others = {"the spatial VAE alone": results.row(rec.experiment, rec.stage, "spatial")}
    others |= {row.variant: results.row(row.experiment, row.stage, row.variant) for row in rival_rows(results)}
    for variant, name in (("repeat", "repeating every fourth latent"), ("mean", "showing the mean frame")):
        others[name] = results.baseline_row(rec.experiment, variant)
    known = {name: other for name, other in others.items() if other is not None and pd.notna(other.get("psnr"))}
    seconds = {
        name: Row(experiment=str(other["experiment"]), stage=str(other["stage"]), variant=str(other["variant"]))
        for name, other in known.items()
    }
    found = {d.second: d for d in differences(results, [(rec, second) for second in seconds.values()], ["psnr"])}
    return [
        f"{_gap(found.get(seconds[name]), float(row['psnr'] - other['psnr']))} {name}" for name, other in known.items()
    ]


def _too_few(sources: int) -> str:
    if not 0 < sources < MIN_SOURCES:
        return ""
    return (
        f" These differences are no verdict: {counted(sources, 'independent source')} cannot carry one, "
        f"{MIN_SOURCES} can."
    )


def why_no_gain(results: Results) -> str | None:
    """Say why a short training has not raised the PSNR; None where it has, or where it was not that short."""
    stages = [
        stage for stage in results.config.stages.trained if stage in results.scored_stages(results.experiments[0])
    ]
    needed = results.config.needed  # what was trained for the last of them, scored or not
    done = [results.config.stages.of(stage).steps for stage in needed]
    usual = sum(Config().stages.of(stage).steps or 0 for stage in needed)
    steps = [count for count in done if count is not None]
    if not stages or len(steps) < len(done) or sum(steps) > FEW_STEPS * usual:
        return None
    first, gain = _least_gain(results, stages)
    if first is None:
        return None
    near = abs(gain) < METRICS["psnr"].smallest
    said = "The stages hardly differ yet" if near else "The stages have not raised the PSNR yet"
    scored_start = _psnr(results, START) is not None
    close = ""
    if near and (first == START or not scored_start):
        start = results.config.model.temporal.init
        started = "linear interpolation between every fourth latent" if start == "interpolate" else "random weights"
        close = f", so the temporal net is still close to its start, {started}"
    return (
        f"{said} ({number(gain, signed=True)} dB from {stage_label(first)} to {stage_label(stages[-1])}): they took "
        f"{sum(steps):,} optimizer steps in all, the paper's {usual:,}{close}. To let it learn, raise stages.*.steps, "
        "and give it more clips to train on."
    )


def _least_gain(results: Results, stages: Sequence[str]) -> tuple[str | None, float]:
    """Name what the last stage is not better than, the start before the first stage, with the gain in dB; else None."""
    last = _psnr(results, stages[-1])
    for first in (START, stages[0]):
        psnr = _psnr(results, first)
        if first != stages[-1] and psnr is not None and last is not None and last - psnr < METRICS["psnr"].smallest:
            return first, last - psnr
    return None, 0.0


def _psnr(results: Results, stage: str) -> float | None:
    row = results.row(results.experiments[0], stage, "rec")
    return None if row is None or pd.isna(row.get("psnr")) else float(row["psnr"])


def unproven_stages(results: Results) -> str | None:
    """Name the stages without a verdict against the one before in what they are for; None where each has one.

    That is LPIPS for a stage that trains with it, where it was scored, else PSNR.
    """
    pairs = [(first, second, _purpose(results, first)) for first, second in stage_pairs(results)]
    made = [paired_difference(results, first, second, metric) for first, second, metric in pairs]
    unsure = [
        _unproven(found)
        for found in corrected([found for found in made if found is not None])
        if found.verdict not in ("better", "worse")
    ]
    return f"No verdict on what a stage added, in what it is for: {'; '.join(unsure)}." if unsure else None


def _purpose(results: Results, row: Row) -> str:
    stage: Stage | None = getattr(results.config.stages, row.stage, None)
    trains_with_lpips = stage is not None and stage.objective == "pixels" and stage.perceptual_weight > 0
    return "lpips" if trains_with_lpips and not clip_values(results, row, "lpips").isna().all() else "psnr"


def _unproven(found: Difference) -> str:
    written, metric = written_difference(found), METRICS[found.metric]
    interval = f" ({written['gap_interval']})" if written["gap_interval"] else ""
    size = f"{written['gap']} {metric.unit}".strip()
    before = stage_label(found.second.stage).lower()
    return f"{stage_label(found.first.stage)} less {before}, {metric.label} {size}{interval}, {found.verdict}"
