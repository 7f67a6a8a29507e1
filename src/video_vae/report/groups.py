"""Scores by how much clips move and by how many frames of them are scored: where video VAEs lose most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from video_vae.metrics.intervals import estimate
from video_vae.metrics.scoring import MOVED
from video_vae.report import figures
from video_vae.report.compare import Row, clip_sources, clip_values, rival_rows
from video_vae.report.sections import FigureWriter
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, number

MOST = 3
"""Most groups of clips."""
LEAST_CLIPS = 2
"""Fewest clips of a group that is cut from a range of values."""
LEAST_SOURCES = 3
"""Fewest sources of a group for an interval: that of two says nothing but that there are two."""
MOST_DECIMALS = 6
FRAMES = "frames"


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """A property of clips that they are grouped by."""

    key: str
    """Column of the table of clips."""
    title: str
    axis: str
    decimals: int


GROUPINGS = (
    Grouping(key=MOVED, title="By how much clips move", axis="Motion, px per frame", decimals=2),
    Grouping(key=FRAMES, title="By number of frames", axis="Frames scored", decimals=0),
)


def grouped(values: pd.Series, decimals: int) -> dict[str, pd.Index]:
    """Cut clips into up to three groups by a value of each, lowest first: label (a range) -> clip ids.

    A few distinct values are groups of their own; otherwise groups are as equal in size as ties let them be. Empty
    where all clips would be in one group.
    """
    known = values.dropna()
    if known.nunique() <= MOST and not _all_differ(known):
        codes = known.rank(method="dense").astype(int)
    else:
        count = min(MOST, len(known) // LEAST_CLIPS)
        edges = known.quantile(np.arange(1, count) / count).to_numpy() if count > 1 else np.empty(0)
        codes = pd.Series(np.searchsorted(edges, known.to_numpy(), side="left"), index=known.index)
    if codes.nunique() < 2:
        return {}
    groups = [known[codes == code] for code in sorted(codes.unique())]
    labels = [_range(group, decimals) for group in groups]
    if len(set(labels)) < len(labels) and decimals < MOST_DECIMALS:
        return grouped(values, decimals + 1)
    return dict(zip(labels, (group.index for group in groups), strict=True))


def _all_differ(values: pd.Series) -> bool:
    return values.is_unique and len(values) < MOST * LEAST_CLIPS


def _range(values: pd.Series, decimals: int) -> str:
    ends = dict.fromkeys(number(float(value), decimals) for value in (values.min(), values.max()))
    return " to ".join(ends)


def group_sections(results: Results, writer: FigureWriter) -> list[dict[str, Any]]:
    """Give a table and a figure for each property that divides the clips of the base run; none where none does."""
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    if final is None:
        return []
    rows = [Row(experiment=experiment, stage=final, variant=variant) for variant in ("rec", "spatial")]
    rows += rival_rows(results)
    return [found for grouping in GROUPINGS if (found := _section(results, grouping, rows, writer)) is not None]


def _section(results: Results, grouping: Grouping, rows: Sequence[Row], writer: FigureWriter) -> dict[str, Any] | None:
    if grouping.key not in results.clips:
        return None
    groups = grouped(clip_values(results, rows[0], grouping.key), grouping.decimals)
    scored = [row for row in rows if not clip_values(results, row, grouping.key).empty]
    metrics = [key for key in METRICS if any(clip_values(results, row, key).notna().any() for row in scored)]
    if not groups or not metrics:
        return None
    lines = [_line(results, row, label, clips, metrics) for label, clips in groups.items() for row in scored]
    first = metrics[0]
    picture = figures.by_group(_points(results, scored, groups, first), first, grouping.axis)
    text = f"{METRICS[first].label} of each group of clips with its 95 % interval: {grouping.title.lower()}"
    return {
        "title": grouping.title,
        "axis": grouping.axis,
        "metrics": [METRICS[key] for key in metrics],
        "rows": lines,
        "figure": writer.save(f"by_{grouping.key}", picture, text),
    }


def _line(results: Results, row: Row, label: str, clips: pd.Index, metrics: Sequence[str]) -> dict[str, Any]:
    cells = []
    for key in metrics:
        found = _estimate(results, row, key, clips)
        mean, *ends = (number(found[name], METRICS[key].decimals) for name in ("mean", "low", "high"))
        cells.append({"text": mean, "interval": "" if np.isnan(found["low"]) else " to ".join(ends)})
    count = len(clips.intersection(clip_values(results, row, metrics[0]).index))
    name = row.label(with_experiment=False)
    return {"group": label, "key": row.variant, "variant": name, "cells": cells, "clips": count}


def _estimate(results: Results, row: Row, metric: str, clips: pd.Index) -> dict[str, float]:
    """Return mean and 95 % interval over the sources of a group's clips; NaN where there is none."""
    values = clip_values(results, row, metric)
    values = values[values.index.isin(clips)].dropna()
    if values.empty:
        return dict.fromkeys(("mean", "low", "high"), float("nan"))
    found = estimate(values.to_numpy(dtype=float), clip_sources(results, row, values.index))
    known = found.sources >= LEAST_SOURCES
    return {"mean": found.mean, "low": found.low if known else math.nan, "high": found.high if known else math.nan}


def _points(results: Results, rows: Sequence[Row], groups: Mapping[str, pd.Index], metric: str) -> pd.DataFrame:
    found = [
        {"group": label, "variant": row.variant, **_estimate(results, row, metric, clips)}
        for label, clips in groups.items()
        for row in rows
    ]
    return pd.DataFrame(found)
