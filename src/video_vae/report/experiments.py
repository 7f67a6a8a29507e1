"""The section that sets experiments side by side: settings, costs, scores, paired differences, curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from video_vae.config import SCORED, STAGES
from video_vae.config import runs as config_runs
from video_vae.report import compare, figures, training_figures
from video_vae.report.compare import Difference, Row
from video_vae.report.lengths import by_length, length_points
from video_vae.report.provenance_view import flatten, written
from video_vae.report.sections import FigureWriter, metric_cell
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, MISSING, counted, duration, stage_label
from video_vae.report.timeline import lay_out


def experiments_section(results: Results, writer: FigureWriter) -> dict[str, Any] | None:
    """Compare the experiments of a config; None where there is only one."""
    if len(results.experiments) < 2:
        return None
    section: dict[str, Any] = {"others": [_described(results, name) for name in results.experiments[1:]]}
    section |= _scores(results)
    section["intervals"] = _difference_figures(results, writer)
    section["lengths"] = _length_figure(results, writer)
    panels = [panel for panel in training_figures.LOSSES if panel.held_out]
    shown = training_figures.panels_with_data(results.logs, panels)
    logs = {name: results.logs[results.logs["experiment"] == name] for name in results.experiments}
    logs = {name: table for name, table in logs.items() if len(table)}
    section["curves"] = None
    if shown and len(logs) > 1:
        picture = training_figures.training_curves(lay_out(logs, "step"), shown)
        text = "Training and validation of the experiments, laid over each other"
        section["curves"] = writer.save("experiments_training", picture, text)
    return section


def setting_differences(results: Results, name: str) -> list[tuple[str, str, str]]:
    """List where an experiment differs from the run that it is compared with: key, that one's value, its own.

    A stage that only one of them trains is one line, not one for each of its settings.
    """
    other = config_runs.compared_with(results.settings, name)
    dumped = [results.settings[run].model_dump(mode="json") for run in (name, other)]
    for stage in STAGES:
        if None in [values["stages"][stage] for values in dumped]:
            for values in dumped:
                values["stages"][stage] = "left out" if values["stages"][stage] is None else "trained"
    own, base = (dict(flatten(values)) for values in dumped)
    left_out = ("experiment", "experiments", "report")
    keys = [key for key in dict.fromkeys([*base, *own]) if key.split(".")[0] not in left_out]
    changed = [key for key in keys if own.get(key, ...) != base.get(key, ...)]
    texts = [[written(table[key]) if key in table else MISSING for key in changed] for table in (base, own)]
    return list(zip(changed, *texts, strict=True))


def _described(results: Results, name: str) -> dict[str, Any]:
    trained = [stage for stage in STAGES if stage in set(results.logs.loc[results.logs["experiment"] == name, "stage"])]
    settings = results.settings[name].stages.trained
    owners = {stage: config_runs.stage_owner(results.settings, name, stage) for stage in settings}
    shared = [stage for stage in settings if owners[stage] != name]
    said = [f"trained {_listed(trained)} itself" if trained else "trained no stage itself"]
    if shared:
        said.append(f"shares {_listed(shared)} with {' and '.join(dict.fromkeys(owners[stage] for stage in shared))}")
    seconds = _own_seconds(results, name)
    if seconds:
        said.append(f"its own jobs took {duration(seconds)}")
    return {
        "name": name,
        "against": config_runs.compared_with(results.settings, name),
        "settings": setting_differences(results, name),
        "said": "; ".join(said),
    }


def _listed(stages: Sequence[str]) -> str:
    names = [stage_label(stage).lower() for stage in stages]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _own_seconds(results: Results, name: str) -> float:
    jobs = results.benchmarks
    return float(jobs.loc[jobs["job"].str.startswith(f"{name}/"), "s"].astype(float).sum()) if len(jobs) else 0.0


def _scores(results: Results) -> dict[str, Any]:
    """Give a row for each experiment and stage: means, and paired differences from what it is compared with."""
    pairs = compare.experiment_pairs(results)
    found = compare.differences(results, pairs)
    metrics = [metric for metric in METRICS.values() if any(difference.metric == metric.key for difference in found)]
    rows = []
    for stage in [name for name in SCORED if any(first.stage == name for first, _ in pairs)]:
        for experiment in results.experiments:
            scores = results.row(experiment, stage, "rec")
            if scores is None:
                continue
            row = Row(experiment=experiment, stage=stage, variant="rec")
            mine = {difference.metric: difference for difference in found if difference.first == row}
            cells = [metric_cell(scores, m.key) | _written(mine.get(m.key)) for m in metrics]
            clips = max((difference.clips for difference in mine.values()), default=0)
            others = [difference.second.experiment for difference in mine.values()]
            paired = f"less {others[0]}, {counted(clips, 'clip')}" if others else ""
            rows.append({"name": experiment, "stage": stage_label(stage), "cells": cells, "paired": paired})
    return {"metrics": metrics, "rows": rows if metrics else [], "rule": compare.rule_text(found)}


def _written(difference: Difference | None) -> dict[str, str]:
    return {} if difference is None else compare.written_difference(difference)


def _difference_figures(results: Results, writer: FigureWriter) -> list[str]:
    drawn = []
    for metric in METRICS.values():
        found = compare.differences(results, compare.experiment_pairs(results), [metric.key])
        if not found:
            continue
        gaps = [_gaps(results, difference.first, difference.second, metric.key) for difference in found]
        labels = [f"{d.first.experiment} − {d.second.experiment},\n{stage_label(d.first.stage).lower()}" for d in found]
        picture = figures.paired_differences(found, labels, gaps)
        text = f"Paired differences of experiments in {metric.label}, clip by clip"
        drawn.append(writer.save(f"experiments_{metric.key}", picture, text))
    return drawn


def _length_figure(results: Results, writer: FigureWriter) -> str | None:
    """Draw what is lost to the spatial VAE in windows of several lengths; None where all are of one length."""
    points = length_points(by_length(results), results, "psnr")
    if points.empty:
        return None
    text = "PSNR less that of the spatial VAE, in windows of several lengths"
    return writer.save("by_length", figures.by_length(points, "psnr"), text)


def _gaps(results: Results, first: Row, second: Row, metric: str) -> pd.Series:
    pairs = compare.paired_values(results, first, second, metric)
    return pairs.iloc[:, 0] - pairs.iloc[:, 1]
