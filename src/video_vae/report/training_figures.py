"""Figures of the training, from the lines of log.jsonl alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from video_vae.config import STAGES
from video_vae.report.style import colour, drawing, new_figure

BINS = 240
"""Most points of a curve; longer logs are averaged in bins, with a 10 to 90 % band."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity against the step: which lines of the log it is taken from, and how it is drawn."""

    column: str
    label: str
    event: str = "train"
    logarithmic: bool = False
    pixels: bool | None = None
    """Shown for stages on pixels (True), on latents (False), or both."""


LOSSES = (
    Panel(column="reconstruction", label="Reconstruction", logarithmic=True),
    Panel(column="l1", label="Held-out L1", event="valid", logarithmic=True),
    Panel(column="psnr_latent", label="Held-out PSNR\nof latents, dB", event="valid"),
    Panel(column="psnr", label="Held-out PSNR, dB", event="valid"),
    Panel(column="identity", label="Identity loss", logarithmic=True),
    Panel(column="perceptual", label="LPIPS (VGG)"),
    Panel(column="kl", label="KL, nats a clip", logarithmic=True),
)
MACHINE = (
    Panel(column="lr", label="Learning rate"),
    Panel(column="grad_norm", label="Gradient norm", logarithmic=True),
    Panel(column="frames_per_s", label="Frames a second"),
    Panel(column="data_share", label="Time waiting\nfor data, %"),
    Panel(column="memory_gb", label="Memory, GB"),
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
    if panel.column not in logs:
        return pd.Series(dtype=float)
    return pd.to_numeric(logs.loc[logs["event"] == panel.event, panel.column], errors="coerce").dropna()


def shared_limits(logs: pd.DataFrame, panel: Panel) -> tuple[float, float] | None:
    """Give limits of a panel that hold for all stages, leaving out the highest hundredth of the training lines."""
    values = _values(logs, panel)
    values = values[values > 0] if panel.logarithmic else values
    if values.empty:
        return None
    top = float(values.quantile(0.995)) if panel.event == "train" and len(values) > 50 else float(values.max())
    bottom = float(values.quantile(0.002)) if len(values) > 50 else float(values.min())
    if panel.logarithmic:
        return bottom / 1.15, top * 1.15
    margin = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    return (bottom - margin if bottom < 0 or bottom > 0.4 * top else 0.0), top + margin


def training_stage(logs: dict[str, pd.DataFrame], panels: Sequence[Panel], everything: pd.DataFrame) -> Figure:
    """Draw a stage's curves, one panel below the other against the step.

    Args:
        logs: experiment -> its lines of this stage; several are laid over each other.
        panels: what to draw.
        everything: lines of all stages, for common limits.
    """
    with drawing():
        figure = new_figure(0.5 + 0.98 * len(panels))
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        last = max((float(table["step"].max()) for table in logs.values() if len(table)), default=1.0)
        for axes, panel in zip(rows, panels, strict=True):
            _draw_panel(axes, panel, logs, everything)
        rows[-1].set_xlabel("Optimizer step")
        rows[-1].set_xlim(-0.01 * last, last * 1.01 or 1.0)
        rows[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        rows[-1].xaxis.set_major_formatter(FuncFormatter(_thousands))
        if len(logs) > 1:
            rows[0].legend(loc="upper right", handlelength=1.2)
    return figure


def _thousands(value: float, _: int | None = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def experiment_colour(position: int) -> str:
    """Give the colour of the n-th experiment, where several are drawn over each other."""
    return colour(("rec", "spatial", "repeat", "mean", "other1", "other2", "other3")[position % 7])


def _draw_panel(axes: Axes, panel: Panel, logs: dict[str, pd.DataFrame], everything: pd.DataFrame) -> None:
    axes.set_ylabel(panel.label)
    limits = shared_limits(everything, panel)
    drawn = False
    for position, (experiment, table) in enumerate(logs.items()):
        tint = experiment_colour(position)
        drawn |= _draw_curve(axes, panel, table, experiment, tint)
        _draw_events(axes, table)
    if not drawn:
        axes.annotate("not in this stage", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize=7)
        axes.set_yticks([])
        return
    if panel.logarithmic:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    if limits is not None:
        axes.set_ylim(limits)


def _draw_curve(axes: Axes, panel: Panel, table: pd.DataFrame, label: str, tint: str) -> bool:
    if panel.column not in table:
        return False
    rows = table[table["event"] == panel.event]
    steps = pd.to_numeric(rows["step"], errors="coerce").to_numpy(dtype=float)
    values = pd.to_numeric(rows[panel.column], errors="coerce").to_numpy(dtype=float)
    good = np.isfinite(steps) & np.isfinite(values)
    if not good.any() or not (np.abs(values[good]) > 0).any():
        return False
    steps, values = steps[good], values[good]
    if panel.event == "valid":
        axes.plot(steps, values, color=tint, marker="o", ms=3, lw=1.1, label=label)
        return True
    middle, mean, low, high = binned(steps, values)
    if len(middle) < len(steps):
        axes.fill_between(middle, low, high, color=tint, alpha=0.15, lw=0)
    axes.plot(middle, mean, color=tint, lw=1.1, label=label)
    return True


def _draw_events(axes: Axes, table: pd.DataFrame) -> None:
    for event, length in (("checkpoint", 0.05), ("resume", 1.0)):
        for step in pd.to_numeric(table.loc[table["event"] == event, "step"], errors="coerce").dropna():
            axes.axvline(step, ymax=length, color=colour("muted"), lw=0.8, ls="-" if event == "checkpoint" else (0, (3, 2)))


def binned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average a long curve in bins of equally many points: middle step, mean, 10 % and 90 % quantile of each bin."""
    order = np.argsort(steps, kind="stable")
    count = min(BINS, max(1, len(steps) // 4)) if len(steps) > 60 else len(steps)
    groups = np.array_split(order, count)
    middle = np.array([steps[group].mean() for group in groups])
    mean = np.array([values[group].mean() for group in groups])
    low, high = (np.array([np.quantile(values[group], q) for group in groups]) for q in (0.1, 0.9))
    return middle, mean, low, high


def stages_in(logs: pd.DataFrame) -> list[str]:
    """List the stages that have lines, in order."""
    return [stage for stage in STAGES if (logs["stage"] == stage).any()]
