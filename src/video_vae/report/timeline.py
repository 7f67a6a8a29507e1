"""Lay the stages of a training end to end on one line, by running time or by optimizer steps, from the logs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from video_vae.config import STAGES

Axis = Literal["time", "step"]
PLACE = "place"
"""Column of a line's place on the time line, in `TimeLine.unit`."""
UNITS = (("d", 86400.0, 3 * 86400.0), ("h", 3600.0, 3 * 3600.0), ("min", 60.0, 180.0), ("s", 1.0, 0.0))
"""Unit of time, its seconds, and from how many seconds on it is used."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of the line that a stage takes."""

    stage: str
    start: float
    end: float
    steps: int
    seconds: float
    """Running time, pauses before restarts left out."""


@dataclass(frozen=True, kw_only=True)
class TimeLine:
    """Log lines with their places, and where each stage lies."""

    logs: dict[str, pd.DataFrame]
    """Experiment -> its lines, with the column `place`."""
    spans: tuple[Span, ...]
    label: str
    """What the axis says, with its unit."""


def running_seconds(lines: pd.DataFrame) -> pd.Series:
    """Give the seconds that a stage had run by each of its lines; the pause before a restart does not count."""
    gaps = pd.to_numeric(lines["time"], errors="coerce").diff().fillna(0.0).clip(lower=0.0)
    return gaps.mask(lines["event"].isin(["start", "resume"]), 0.0).cumsum()


def lay_out(logs: Mapping[str, pd.DataFrame], axis: Axis) -> TimeLine:
    """Put the stages of each experiment one behind the other; a stage takes as much room as its longest experiment.

    Args:
        logs: experiment -> its lines of all stages, in the order of the log: columns stage, event, step, time.
        axis: `time` (running time) or `step` (optimizer steps).
    """
    tables = {name: _with_seconds(table) for name, table in logs.items()}
    stages = [stage for stage in STAGES if any((table["stage"] == stage).any() for table in tables.values())]
    column = "seconds" if axis == "time" else "step"
    placed: dict[str, list[pd.DataFrame]] = {name: [] for name in tables}
    spans, start = [], 0.0
    for stage in stages:
        parts = {name: table[table["stage"] == stage] for name, table in tables.items()}
        lengths, steps, seconds = (_longest(parts, name) for name in (column, "step", "seconds"))
        for name, part in parts.items():
            placed[name].append(part.assign(**{PLACE: start + pd.to_numeric(part[column], errors="coerce")}))
        spans.append(Span(stage=stage, start=start, end=start + lengths, steps=int(steps), seconds=seconds))
        start += lengths
    unit, scale = _unit(start) if axis == "time" else ("", 1.0)
    joined = {name: _scaled(parts, scale) for name, parts in placed.items() if parts}
    fitted = [
        Span(stage=s.stage, start=s.start / scale, end=s.end / scale, steps=s.steps, seconds=s.seconds) for s in spans
    ]
    label = f"Running time, {unit}" if axis == "time" else "Optimizer steps of all stages"
    return TimeLine(logs=joined, spans=tuple(fitted), label=label)


def _with_seconds(table: pd.DataFrame) -> pd.DataFrame:
    parts = [part.assign(seconds=running_seconds(part)) for _, part in table.groupby("stage", sort=False)]
    return pd.concat(parts) if parts else table.assign(seconds=pd.Series(dtype=float))


def _longest(parts: Mapping[str, pd.DataFrame], column: str) -> float:
    values = [pd.to_numeric(part[column], errors="coerce").max() for part in parts.values() if len(part)]
    return float(np.nanmax(values)) if values and not np.all(np.isnan(values)) else 0.0


def _scaled(parts: list[pd.DataFrame], scale: float) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{PLACE: table[PLACE] / scale})


def _unit(seconds: float) -> tuple[str, float]:
    return next((unit, scale) for unit, scale, least in UNITS if seconds >= least)
