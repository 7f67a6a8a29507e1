"""Figures of the scores, each a small function from a tidy table; panels are as wide as a phone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from video_vae.report.compare import Difference
from video_vae.report.style import colour, drawing, new_figure
from video_vae.report.terms import METRICS, compact, duration, variant_label

MANY_CLIPS = 500
"""Above this a scatter of clips becomes a density."""
SERIES = ("rec", "spatial", "repeat", "mean")
"""Colours of lines that are no variants, by name of the palette."""
MANY_GAPS = 200
"""Above this the ticks of single clips become a density."""


def metric_intervals(table: pd.DataFrame, metric: str) -> Figure:
    """Draw a metric's mean and 95 % interval for each row: columns label, variant, METRIC, METRIC_low, METRIC_high."""
    with drawing():
        figure = new_figure(0.75 + 0.24 * max(len(table), 1))
        axes = figure.subplots()
        for position, (_, row) in enumerate(table.iterrows()):
            tint = colour(str(row["variant"]))
            if pd.notna(row[f"{metric}_low"]):
                axes.plot([row[f"{metric}_low"], row[f"{metric}_high"]], [position] * 2, color=tint, lw=2.2, alpha=0.55)
            axes.plot(row[metric], position, "o", color=tint, ms=5)
        axes.set_yticks(range(len(table)), [str(label) for label in table["label"]])
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(METRICS[metric].axis)
    return figure


def rec_against_spatial(clips: pd.DataFrame, metric: str = "psnr") -> Figure:
    """Draw each clip's score with the whole pipeline against the spatial VAE alone: columns rec, spatial."""
    with drawing():
        figure = new_figure(3.3)
        axes = figure.subplots()
        pairs = clips[["spatial", "rec"]].dropna()
        if len(pairs) > MANY_CLIPS:
            axes.hexbin(pairs["spatial"], pairs["rec"], gridsize=40, bins="log", cmap="cividis", mincnt=1, linewidths=0)
        else:
            axes.plot(pairs["spatial"], pairs["rec"], "o", color=colour("rec"), ms=4, alpha=0.6, mew=0)
        if len(pairs):
            ends = [float(pairs.min().min()), float(pairs.max().max())]
            margin = 0.05 * (ends[1] - ends[0]) or 0.5
            span = [ends[0] - margin, ends[1] + margin]
            axes.plot(span, span, color=colour("muted"), lw=0.8, ls=(0, (4, 3)))
            corner = span[1] - 0.02 * (span[1] - span[0])
            axes.text(corner, corner, "equal  ", ha="right", va="top")
            axes.set(xlim=span, ylim=span)
        axes.set_aspect("equal")
        unit = f", {METRICS[metric].unit}" if METRICS[metric].unit else ""
        axes.set_xlabel(f"{METRICS[metric].label} of the spatial VAE alone{unit}")
        axes.set_ylabel(f"{METRICS[metric].label} of the video VAE{unit}")
    return figure


def by_group(points: pd.DataFrame, metric: str, label: str) -> Figure:
    """Draw a metric's mean and 95 % interval in each group of clips: columns group, variant, mean, low, high.

    Args:
        points: groups in their order, a row for each variant.
        metric: key of the metric.
        label: what the clips are grouped by, with its unit.
    """
    groups, variants = list(dict.fromkeys(points["group"])), list(dict.fromkeys(points["variant"]))
    with drawing():
        figure = new_figure(2.4)
        axes = figure.subplots()
        for number, variant in enumerate(variants):
            rows = points[points["variant"] == variant].set_index("group").reindex(groups)
            places = np.arange(len(groups)) + 0.12 * (number - (len(variants) - 1) / 2)
            tint = colour(str(variant))
            axes.vlines(places, rows["low"], rows["high"], color=tint, lw=2.2, alpha=0.55)
            axes.plot(places, rows["mean"], "o-", color=tint, ms=5, lw=0.8, label=variant_label(str(variant)))
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(label)
        axes.set_ylabel(f"{METRICS[metric].label}{', ' + METRICS[metric].unit if METRICS[metric].unit else ''}")
        axes.margins(y=0.15)
        axes.legend(loc="best", handlelength=1.2, borderaxespad=0.1)
    return figure


def by_length(points: pd.DataFrame, metric: str) -> Figure:
    """Draw what nets lose to the spatial VAE in windows of each length: columns weights, frames, mean, low, high."""
    names, lengths = list(dict.fromkeys(points["weights"])), sorted(set(points["frames"]))
    with drawing():
        figure = new_figure(2.6)
        axes = figure.subplots()
        axes.axhline(0, color=colour("muted"), lw=0.9)
        for position, name in enumerate(names):
            rows = points[points["weights"] == name].sort_values("frames")
            places = np.array([lengths.index(frames) for frames in rows["frames"]])
            places = places + 0.14 * (position - (len(names) - 1) / 2)
            tint = colour(SERIES[position % len(SERIES)])
            axes.vlines(places, rows["low"], rows["high"], color=tint, lw=2.2, alpha=0.55)
            axes.plot(places, rows["mean"], "o-", color=tint, ms=4, lw=0.8, label=name)
        axes.set_xticks(range(len(lengths)), [str(frames) for frames in lengths])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("Frames of a window")
        unit = f", {METRICS[metric].unit}" if METRICS[metric].unit else ""
        axes.set_ylabel(f"{METRICS[metric].label} less the spatial VAE's{unit}")
        axes.margins(y=0.15)
        axes.legend(loc="best", handlelength=1.2, borderaxespad=0.1)
    return figure


def over_time(
    frames: pd.DataFrame, title: str, chunk: int | None, limits: tuple[float, float], metric: str = "psnr"
) -> Figure:
    """Draw a metric against the frame's place in the clip, mean and 10 to 90 % band: columns variant, frame, METRIC."""
    with drawing():
        figure = new_figure(2.4)
        axes = figure.subplots()
        last = int(frames["frame"].max()) if len(frames) else 0
        for border in range(chunk or last + 1, last + 1, chunk or last + 1):
            axes.axvline(border - 0.5, color=colour("muted"), lw=0.7, ls=(0, (2, 3)))
        for variant, rows in frames.groupby("variant"):
            _band(axes, rows, str(variant), metric)
        axes.set(title=title, xlim=(-0.3, last + 0.3), ylim=limits, xlabel="Frame of the clip")
        axes.set_ylabel(f"{METRICS[metric].label}{', ' + METRICS[metric].unit if METRICS[metric].unit else ''}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="lower right", ncols=2, handlelength=1.2, borderaxespad=0.1)
    return figure


def _band(axes: Axes, rows: pd.DataFrame, variant: str, metric: str) -> None:
    grouped = rows.groupby("frame")[metric]
    mean, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
    tint = colour(variant)
    axes.fill_between(mean.index, low, high, color=tint, alpha=0.15, lw=0)
    marker = "o" if len(mean) < 2 else ""
    axes.plot(mean.index, mean, color=tint, marker=marker, ms=4, label=variant_label(variant))


def paired_differences(found: Sequence[Difference], labels: Sequence[str], gaps: Sequence[pd.Series]) -> Figure:
    """Draw mean paired differences of one metric with their 95 % intervals, above those of the single clips.

    Args:
        found: one difference per row.
        labels: name of each row.
        gaps: the single clips' differences of each row; above `MANY_GAPS` they become a density.
    """
    metric = METRICS[found[0].metric]
    with drawing():
        figure = new_figure(0.8 + 0.42 * len(found))
        axes = figure.subplots()
        axes.axvline(0, color=colour("muted"), lw=0.9)
        for position, (difference, values) in enumerate(zip(found, gaps, strict=True)):
            _clip_gaps(axes, values.dropna().to_numpy(dtype=float), position + 0.25)
            axes.plot([difference.low, difference.high], [position - 0.12] * 2, color=colour("rec"), lw=2.2, alpha=0.55)
            axes.plot(difference.mean, position - 0.12, "o", color=colour("rec"), ms=5)
        axes.set_yticks(range(len(found)), list(labels))
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        axes.set_xlabel(f"Difference in {metric.label}{', ' + metric.unit if metric.unit else ''}")
    return figure


def _clip_gaps(axes: Axes, values: np.ndarray, height: float) -> None:
    if len(values) <= MANY_GAPS:
        axes.plot(values, np.full(len(values), height), "|", color=colour("muted"), ms=6, mew=0.9)
        return
    counts, edges = np.histogram(values, bins=60)
    tops = height + 0.12 - 0.3 * counts / counts.max()
    axes.fill_between(edges[:-1], tops, height + 0.12, step="post", color=colour("muted"), alpha=0.5, lw=0)


def costs(jobs: pd.DataFrame, column: str, label: str, scale: float = 1.0) -> Figure:
    """Draw what each job cost as bars: columns job and the one named."""
    rows = jobs.dropna(subset=[column])
    with drawing():
        figure = new_figure(0.6 + 0.2 * max(len(rows), 1))
        axes = figure.subplots()
        values = (rows[column] * scale).to_numpy(dtype=float)
        axes.barh(range(len(rows)), values, color=colour("rec"), height=0.62)
        written = [duration(value) if column == "s" else f"{value:.2g}" for value in values]
        for position, (value, text) in enumerate(zip(values, written, strict=True)):
            axes.annotate(text, (value, position), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), [str(job) for job in rows["job"]])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, (float(np.max(values)) if len(values) else 1.0) * 1.22 or 1.0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(label)
    return figure
