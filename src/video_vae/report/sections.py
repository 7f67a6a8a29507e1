"""What each section of the page says, as plain values for its template."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from video_vae.config.protocols import scored_as
from video_vae.progress import progress
from video_vae.report import compare, figures
from video_vae.report.answer import answer, unproven_stages, why_no_gain
from video_vae.report.compare import Difference, Row
from video_vae.report.rates import rate_section
from video_vae.report.style import inline_svg, save_figure
from video_vae.report.tables import BASELINE, COMPARE, Results
from video_vae.report.terms import METRICS, counted, flow_label, number, stage_label, variant_label

ORDER = {"start": 0, "stage1": 1, "stage2": 2, "stage3": 3}
LAST = {COMPARE: 1, BASELINE: 2}
VARIANT_ORDER = {"rec": 0, "spatial": 1, "repeat": 2, "mean": 3}


class FigureWriter:
    """Saves each figure in a folder, as SVG and PDF, and hands it to the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._drawn = progress(desc="report", unit="figures", brief=True)

    def save(self, name: str, figure: Figure, description: str) -> str:
        """Save a figure and give it as inline SVG with a text alternative."""
        text = save_figure(figure, self.folder, name)
        self._drawn.update()
        return inline_svg(text, name, html.escape(description))


def head(results: Results) -> dict[str, Any]:
    """Give title, question, answer and the key facts of the first screen."""
    config = results.config
    height, width = scored_as(config).data.resolution
    temporal = 2 ** sum(config.model.temporal.temporal_downsample)
    facts = [
        ("Compression", f"{temporal}×8×8, 4 channels"),
        ("Resolution", f"{height}×{width} pixels"),
        ("Held-out clips", _held_out(results)),
        ("Spatial VAE", spatial_name(results)),
    ]
    if protocol := protocol_names(results, results.experiments):
        facts.append(("Protocol", protocol))
    if flows := flow_names(results):
        facts.append(("Optical flow of FloLPIPS", flows))
    ends = sorted(str(run.record["end"]) for run in results.runs if run.record.get("end"))
    if ends:
        facts.append(("Finished", f"{ends[-1][:16].replace('T', ' ')} UTC"))
    return {
        "title": config.report.title,
        "question": config.report.question,
        "answer": answer(results),
        "notes": [note for note in (why_no_gain(results), unproven_stages(results)) if note],
        "facts": facts,
    }


def _held_out(results: Results) -> str:
    test = results.test
    if test.empty:
        return counted(results.clips["clip_id"].nunique(), "clip") if len(results.clips) else "none yet"
    text = f"{len(test):,}"
    if "source_id" in test:
        text += f" from {counted(test['source_id'].nunique(), 'source')}"
    shared = shared_sources(results)
    if shared:
        text += f", not held out by source: {len(shared)} of them {'is' if len(shared) == 1 else 'are'} trained on too"
    return text


def shared_sources(results: Results) -> list[str]:
    """List the files that have clips on both sides of the split."""
    train, test = results.train, results.test
    if not all("source_id" in table and "path" in table for table in (train, test)):
        return []
    return sorted(set(test.loc[test["source_id"].isin(set(train["source_id"])), "path"].astype(str)))


def spatial_name(results: Results) -> str:
    """Say which spatial VAE the run has: a pretrained one, or a small one that left the record of its training."""
    named = results.config.spatial.pretrained
    if named is None:
        return "a small one, trained in this run"
    trained = any(run.record.get("command") == "train-spatial" for run in results.runs)
    return f"a small one, trained before ({named})" if trained else named


def flow_names(results: Results) -> str:
    """Name the optical flows behind FloLPIPS; empty where there is none."""
    found = {value for value in results.metrics_text.get("flow", ()) if value}
    return ", ".join(sorted(map(flow_label, found)))


def protocol_names(results: Results, experiments: Iterable[str]) -> str:
    """Name the protocols that runs are scored by, each with its run where they differ; empty where there is none."""
    table = results.metrics_text
    if "protocol" not in table:
        return ""
    found = {name: set(table.loc[table["experiment"] == name, "protocol"]) - {""} for name in experiments}
    texts = {name: " and ".join(sorted(values)) for name, values in found.items()}
    if len(set(texts.values())) < 2:
        return next(iter(texts.values()), "")
    return ", ".join(f"{text} ({name})" for name, text in texts.items() if text)


def _column_values(results: Results, column: str) -> str:
    if column not in results.metrics_text:
        return ""
    return ", ".join(sorted({value for value in results.metrics_text[column] if value}))


def ordered_metrics(results: Results) -> pd.DataFrame:
    """Sort metrics.csv for reading: experiments in order, the last stage first, then rivals and baselines."""
    table = results.metrics.copy()
    if table.empty:
        return table
    place = {name: index for index, name in enumerate(results.experiments)}
    keys = pd.DataFrame(
        {
            "other": table["stage"].map(LAST).fillna(0),
            "experiment": table["experiment"].map(place),
            "stage": -table["stage"].map(ORDER).fillna(5),
            "variant": table["variant"].map(VARIANT_ORDER).fillna(8),
        }
    )
    return table.loc[keys.sort_values(list(keys.columns), kind="stable").index]


def metrics_table(results: Results) -> dict[str, Any]:
    """Give all rows of metrics.csv, each number rounded for reading beside the text of the file.

    `main` marks the rows that answer the question: final reconstructions, the spatial VAE alone, rivals, baselines.
    """
    table = ordered_metrics(results)
    metrics = [METRICS[key] for key in METRICS if key in table and table[key].notna().any()]
    main = _main_rows(results, table)
    rows = []
    texts = results.metrics_text.loc[table.index]
    for (place, row), (_, raw) in zip(table.iterrows(), texts.iterrows(), strict=True):
        cells = [{"metric": m.key, "raw": raw[m.key], **metric_cell(row, m.key)} for m in metrics]
        rows.append(
            {
                "experiment": row["experiment"],
                "stage": stage_label(row["stage"]),
                "variant": variant_label(row["variant"]),
                "key": row["variant"],
                "main": place in main,
                "final": place in main and row["variant"] == "rec",
                "cells": cells,
                "clips": raw.get("clips", ""),
                "frames": raw.get("frames", ""),
            }
        )
    conditions = ("resolution", "lpips_weights", "spatial_weights", "version")
    said = [("protocol", protocol_names(results, results.experiments)), ("flow", flow_names(results))]
    said += [(n.replace("_", " "), _column_values(results, n)) for n in conditions]
    return {"metrics": metrics, "rows": rows, "conditions": [(k, v) for k, v in said if v]}


def _main_rows(results: Results, table: pd.DataFrame) -> set[Any]:
    final = table["experiment"].map({name: results.final_stage(name) for name in results.experiments})
    last = table[(table["stage"] == final) | table["stage"].isin(list(LAST))]
    base = last["experiment"] == results.experiments[0]
    return set(last.index[base | (last["variant"] == "rec")])


def metric_cell(row: pd.Series, metric: str) -> dict[str, str]:
    """Write a row's mean of a metric as `text` and its 95 % interval as `interval` (empty where there is none)."""
    decimals = METRICS[metric].decimals
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    interval = ""
    if pd.notna(low) and pd.notna(high):
        interval = f"{number(low, decimals)} to {number(high, decimals)}"
    return {"text": number(row[metric], decimals), "interval": interval}


def results_section(results: Results, writer: FigureWriter) -> dict[str, Any]:
    """Give the table of metrics, their intervals as figures, and the paired differences."""
    table = metrics_table(results)
    plotted = ordered_metrics(results)
    many = len(results.experiments) > 1
    section: dict[str, Any] = {"table": table, "many_experiments": many, "intervals": [], "differences": None}
    section["warnings"] = [f"{run.name}: {text}" for run in results.conditions for text in run.record["warnings"]]
    if plotted.empty:
        return section
    plotted = _without_repeats(plotted)
    base = results.experiments[0]
    names = [_row(row).short for _, row in plotted.iterrows()]
    labels = []
    for name, (_, row) in zip(names, plotted.iterrows(), strict=True):
        # a spatial VAE that stage 3 trained scores otherwise than before
        stage = (
            f", {stage_label(row['stage']).lower()}" if row["variant"] == "spatial" and names.count(name) > 1 else ""
        )
        labels.append(name + stage + ("" if row["experiment"] == base else f", {row['experiment']}"))
    plotted["label"] = labels
    for metric in table["metrics"]:
        complete = plotted.reindex(columns=[*plotted.columns, *_ends(metric.key, plotted)])
        picture = figures.metric_intervals(complete.dropna(subset=[metric.key]), metric.key)
        text = f"{metric.label} of every row of the table with its 95 % interval"
        section["intervals"].append(writer.save(f"metric_{metric.key}", picture, text))
    section |= _spread_figures(results, writer)
    section["rates"] = rate_section(results, writer.save)
    found = compare.differences(results, compare.main_pairs(results))
    section["differences"] = difference_table(found, with_experiment=False)
    return section


def _ends(metric: str, table: pd.DataFrame) -> list[str]:
    return [name for name in (f"{metric}_low", f"{metric}_high") if name not in table]


def _without_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Draw rows once that score the same: a frozen spatial VAE after each stage, stages that experiments share."""
    scores = [key for key in METRICS if key in table]
    return table.drop_duplicates(["variant", *scores], keep="first").copy()


def _row(row: pd.Series) -> Row:
    return Row(experiment=row["experiment"], stage=row["stage"], variant=row["variant"])


def _spread_figures(results: Results, writer: FigureWriter) -> dict[str, Any]:
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    if final is None:
        return {}
    found: dict[str, Any] = {"over_time": over_time_figures(results, writer)}
    rec, spatial = (Row(experiment=experiment, stage=final, variant=v) for v in ("rec", "spatial"))
    pairs = pd.DataFrame({row.variant: compare.clip_values(results, row, "psnr") for row in (spatial, rec)})
    if len(pairs.dropna()):
        picture = figures.rec_against_spatial(pairs)
        text = "PSNR of each clip with the video VAE against the spatial VAE alone"
        found["scatter"] = writer.save("clips_rec_against_spatial", picture, text)
    return found


def over_time_figures(results: Results, writer: FigureWriter) -> list[str]:
    """Draw PSNR against the frame's place in its clip for each stage of the base run, on one scale."""
    experiment = results.experiments[0]
    table = results.frames[results.frames["experiment"] == experiment]
    table = table[table["psnr"].notna()]
    stages = [stage for stage in ORDER if (table["stage"] == stage).any()]
    if not stages:
        return []
    scored = table[table["stage"].isin(stages)].groupby(["stage", "variant", "frame"])["psnr"]
    low, high = float(scored.quantile(0.1).min()), float(scored.quantile(0.9).max())
    margin = 0.08 * (high - low) or 1.0
    drawn = []
    for stage in stages:
        own = (table["stage"] == stage) & table["variant"].isin(["rec", "spatial"])
        rows = table[own | (table["stage"] == COMPARE)] if stage == stages[-1] else table[own]
        limits = (low - 2 * margin, high + margin)
        picture = figures.over_time(rows, stage_label(stage), results.config.chunk_frames, limits)
        text = f"PSNR against the frame of the clip after {stage_label(stage).lower()}"
        drawn.append(writer.save(f"psnr_over_time_{stage}", picture, text))
    return drawn


def difference_table(found: Sequence[Difference], *, with_experiment: bool) -> dict[str, Any] | None:
    """Arrange paired differences as a table: one row per pair, one cell a metric."""
    if not found:
        return None
    metrics = [METRICS[key] for key in METRICS if any(difference.metric == key for difference in found)]
    rows: dict[tuple[Row, Row], dict[str, Any]] = {}
    for difference in found:
        key = (difference.first, difference.second)
        names = [row.label(with_experiment=with_experiment) for row in key]
        row = rows.setdefault(key, {"first": names[0], "second": names[1], "cells": {}, "clips": 0})
        row["clips"] = max(row["clips"], difference.clips)
        row["cells"][difference.metric] = compare.written_difference(difference)
    return {"metrics": metrics, "rows": list(rows.values()), "rule": compare.rule_text(found)}
