"""Figures of the training, from the lines of log.jsonl alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

from video_vae.report.style import PANEL_WIDTH, colour, drawing, new_figure
from video_vae.report.terms import compact, duration, stage_label
from video_vae.report.timeline import PLACE, TimeLine

BINS = 240
"""Most points of a curve; longer logs are averaged in bins, with a 10 to 90 % band."""
MANY_EVENTS = 150
"""Above this only some of the marks of an event are drawn."""
WIDE = 2.6 * PANEL_WIDTH
"""Width of a time line in inches: as wide as the page."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity against the step, and how it is drawn."""

    column: str
    label: str
    train: bool = True
    """Drawn from the lines of training steps, as a curve."""
    event: str = "train"
    """Of these lines."""
    held_out: bool = False
    """Drawn from the lines of validations, as dots."""
    reference: str | None = None
    """Column of the validations drawn as a dashed line: what there is to reach."""
    logarithmic: bool = False
    from_zero: bool = False


LOSSES = (
    Panel(column="loss", label="Total loss", logarithmic=True),
    Panel(column="l1", label="L1", held_out=True, logarithmic=True),
    Panel(column="psnr_latent", label="PSNR of\nlatents, dB", train=False, held_out=True),
    Panel(column="psnr", label="PSNR, dB", train=False, held_out=True, reference="psnr_spatial"),
    Panel(column="identity", label="Identity\nloss"),
    Panel(column="identity", label="Held-out\nidentity L1", train=False, held_out=True),
    Panel(column="perceptual", label="Perceptual\nloss", from_zero=True),
    Panel(column="kl", label="KL, nats\na clip", logarithmic=True),
)
ADVERSARIAL = (
    Panel(column="d_loss", label="Loss of dis-\ncriminator", event="discriminator", from_zero=True),
    Panel(column="g_loss", label="Loss\nagainst it", event="discriminator"),
    Panel(column="logits_real", label="Its logits\nof clips", event="discriminator"),
    Panel(column="logits_fake", label="Its logits of\nreconstr.", event="discriminator"),
    Panel(column="adaptive_weight", label="Adaptive\nweight", event="discriminator", logarithmic=True),
)
SPATIAL = (
    Panel(column="psnr", label="Held-out\nPSNR, dB", train=False, held_out=True),
    Panel(column="l1", label="L1 of the\nstep", train=False, held_out=True),
)
MACHINE = (
    Panel(column="lr", label="Learning\nrate", from_zero=True),
    Panel(column="grad_norm", label="Gradient\nnorm", logarithmic=True),
    Panel(column="frames_per_s", label="Frames\na second", logarithmic=True),
    Panel(column="data_share", label="Waiting for\ndata, %", from_zero=True),
    Panel(column="memory_gb", label="Memory,\nGB", from_zero=True),
)


def with_shares(logs: pd.DataFrame) -> pd.DataFrame:
    """Add the share of each step's time that was spent waiting for data, in percent."""
    parts = [column for column in ("data_s", "forward_s", "backward_s", "optimizer_s") if column in logs]
    if "data_s" not in parts:
        return logs
    total = logs[parts].astype(float).sum(axis=1)
    return logs.assign(data_share=100 * logs["data_s"].astype(float) / total.where(total > 0))


def panels_with_data(logs: pd.DataFrame, panels: Sequence[Panel]) -> list[Panel]:
    """Keep the panels for which a stage has a number; all stages then show the same ones, row by row."""
    kept = []
    for panel in panels:
        values = _values(logs, panel)
        if len(values) and (values.abs() > 0).any():
            kept.append(panel)
    return kept


def _values(logs: pd.DataFrame, panel: Panel) -> pd.Series:
    events = [event for event, shown in ((panel.event, panel.train), ("valid", panel.held_out)) if shown]
    if panel.column not in logs:
        return pd.Series(dtype=float)
    return pd.to_numeric(logs.loc[logs["event"].isin(events), panel.column], errors="coerce").dropna()


def limits_of(logs: pd.DataFrame, panel: Panel) -> tuple[float, float] | None:
    """Give the limits of a panel, leaving out the few most extreme training steps."""
    values = _values(logs, panel)
    if panel.reference in logs:
        values = pd.concat([values, pd.to_numeric(logs[panel.reference], errors="coerce").dropna()])
    values = values[values > 0] if panel.logarithmic else values
    if values.empty:
        return None
    many = panel.train and len(values) > 50
    bottom, top = (float(values.quantile(q)) for q in ((0.002, 0.995) if many else (0.0, 1.0)))
    if panel.logarithmic:
        return bottom / 1.2, top * 1.2
    margin = 0.08 * (top - bottom) or 0.08 * abs(top) or 1.0
    return (0.0 if panel.from_zero else bottom - margin), top + margin


def training_curves(line: TimeLine, panels: Sequence[Panel], width: float = WIDE) -> Figure:
    """Draw quantities along a time line, one panel below the other; several experiments are laid over each other.

    Args:
        line: logs with their places.
        panels: what to draw.
        width: of the figure, in inches.
    """
    with drawing():
        figure = new_figure(0.75 + 0.74 * len(panels), width)
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        everything = pd.concat(line.logs.values(), ignore_index=True)
        for axes, panel in zip(rows, panels, strict=True):
            _draw_stages(axes, line)
            _draw_panel(axes, panel, line, everything)
        _name_stages(rows[0], line)
        end = line.spans[-1].end
        rows[-1].set_xlabel(line.label)
        rows[-1].set_xlim(-0.005 * end, 1.005 * end or 1.0)
        rows[-1].xaxis.set_major_locator(MaxNLocator(8, integer=not line.label.startswith("Running")))
        rows[-1].xaxis.set_major_formatter(FuncFormatter(compact))
        figure.align_ylabels(list(rows))
        if len(line.logs) > 1:
            handles, labels = rows[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower right", handlelength=1.2, ncols=len(labels))
    return figure


def _draw_stages(axes: Axes, line: TimeLine) -> None:
    for place, span in enumerate(line.spans):
        if place % 2:
            axes.axvspan(span.start, span.end, color=colour("panel"), lw=0, zorder=-2)
        if place:
            axes.axvline(span.start, color=colour("muted"), lw=0.7)


def _name_stages(axes: Axes, line: TimeLine) -> None:
    if len(line.spans) < 2:
        return
    for span in line.spans:
        middle = (span.start + span.end) / 2
        text = f"{span.steps:,} steps" + (f", {duration(span.seconds)}" if len(line.logs) == 1 else "")
        for height, words, size, weight in ((15, stage_label(span.stage), 8.5, "bold"), (5, text, 7.0, "normal")):
            axes.annotate(
                words,
                (middle, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, height),
                textcoords="offset points",
                ha="center",
                fontsize=size,
                fontweight=weight,
            )


def experiment_colour(position: int) -> str:
    """Give the colour of the n-th experiment, where several are drawn over each other."""
    return colour(("rec", "other1", "other2", "other3", "repeat", "mean")[position % 6])


def _draw_panel(axes: Axes, panel: Panel, line: TimeLine, everything: pd.DataFrame) -> None:
    axes.set_ylabel(panel.label)
    for position, (experiment, table) in enumerate(line.logs.items()):
        label = experiment
        for span in line.spans:
            lines = table[table["stage"] == span.stage]
            if _draw_curves(axes, panel, lines, label, experiment_colour(position)):
                label = "_"
        _draw_events(axes, table)
    limits = limits_of(everything, panel)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(_log_locator(limits))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(compact))
    if limits is not None:
        axes.set_ylim(limits)


def _log_locator(limits: tuple[float, float] | None) -> Locator:
    """Place few ticks on a logarithmic axis, whatever its range."""
    ratio = limits[1] / limits[0] if limits is not None else 10.0
    if ratio < 8:
        return MaxNLocator(3)
    return LogLocator(subs=(1, 3) if ratio < 50 else (1,), numticks=5)


def _points(table: pd.DataFrame, event: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    rows = table[table["event"] == event]
    if column not in rows:
        return np.empty(0), np.empty(0)
    steps, values = (pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=float) for name in (PLACE, column))
    good = np.isfinite(steps) & np.isfinite(values)
    # a part of the loss that a stage leaves out may be logged as zero
    return (steps[good], values[good]) if (np.abs(values[good]) > 0).any() else (np.empty(0), np.empty(0))


def _draw_curves(axes: Axes, panel: Panel, table: pd.DataFrame, label: str, tint: str) -> bool:
    drawn = False
    if panel.reference is not None:
        steps, values = _points(table, "valid", panel.reference)
        axes.plot(steps, values, color=colour("spatial"), lw=1.0, ls=(0, (4, 2)))
    steps, values = _points(table, panel.event, panel.column) if panel.train else (np.empty(0), np.empty(0))
    if len(steps):
        middle, mean, low, high = binned(steps, values)
        if len(middle) < len(steps):
            axes.fill_between(middle, low, high, color=tint, alpha=0.15, lw=0)
        axes.plot(middle, mean, color=tint, lw=1.1, label=label)
        drawn = True
    steps, values = _points(table, "valid", panel.column) if panel.held_out else (np.empty(0), np.empty(0))
    if len(steps):
        line = 0.0 if panel.train else 1.1
        axes.plot(steps, values, color=tint, marker="o", ms=3.2, mew=0, lw=line, label=None if drawn else label)
        drawn = True
    return drawn


def _draw_events(axes: Axes, table: pd.DataFrame) -> None:
    for event, top, width, style in (("checkpoint", 0.09, 0.8, "-"), ("resume", 1.0, 0.9, (0, (3, 2)))):
        places = pd.to_numeric(table.loc[table["event"] == event, PLACE], errors="coerce").dropna()
        for place in places.iloc[:: 1 + len(places) // MANY_EVENTS]:
            axes.axvline(place, ymax=top, color=colour("ink" if event == "resume" else "muted"), lw=width, ls=style)


def binned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average a long curve in bins of equally many points: middle step, mean, 10 % and 90 % quantile of each bin."""
    order = np.argsort(steps, kind="stable")
    count = min(BINS, max(1, len(steps) // 4)) if len(steps) > 60 else len(steps)
    groups = np.array_split(order, count)
    middle = np.array([steps[group].mean() for group in groups])
    mean = np.array([values[group].mean() for group in groups])
    low, high = (np.array([np.quantile(values[group], q) for group in groups]) for q in (0.1, 0.9))
    return middle, mean, low, high
