"""What each section of the page says, as plain values for its template."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from video_vae.progress import progress
from video_vae.report import compare, figures, training_figures
from video_vae.report.compare import Difference, Row
from video_vae.report.style import inline_svg, save_figure
from video_vae.report.tables import BASELINE, Results
from video_vae.report.terms import METRICS, MISSING, counted, duration, number, stage_label, variant_label

ORDER = {"stage1": 1, "stage2": 2, "stage3": 3, BASELINE: 9}
VARIANT_ORDER = {"rec": 0, "spatial": 1, "repeat": 2, "mean": 3}


class Shelf:
    """Saves each figure in a folder, as SVG and where wanted as PDF, and hands it to the page."""

    def __init__(self, folder: Path, *, pdf: bool = False) -> None:
        self.folder = folder
        self.pdf = pdf
        self._drawn = progress(desc="report", unit="figures", brief=True)

    def place(self, name: str, figure: Figure, description: str) -> str:
        """Save a figure and give it as inline SVG with a text alternative."""
        text = save_figure(figure, self.folder, name, pdf=self.pdf)
        self._drawn.update()
        return inline_svg(text, name, html.escape(description))


def head(results: Results) -> dict[str, Any]:
    """Give title, question, answer and the key facts of the first screen."""
    config = results.config
    height, width = config.data.resolution
    temporal = 2 ** sum(config.model.temporal.temporal_downsample)
    facts = [
        ("Compression", f"{temporal}×8×8, 4 channels"),
        ("Resolution", f"{height}×{width} pixels"),
        ("Held-out clips", _held_out(results)),
        ("Spatial VAE", config.spatial.pretrained or "small, trained in this run"),
    ]
    flow = _column_values(results, "flow")
    if flow:
        facts.append(("Optical flow of FloLPIPS", flow))
    ends = sorted(str(run.record["end"]) for run in results.runs if run.record.get("end"))
    if ends:
        facts.append(("Finished", f"{ends[-1][:16].replace('T', ' ')} UTC"))
    return {
        "title": config.report.title,
        "question": config.report.question,
        "answer": compare.answer(results),
        "facts": facts,
    }


def _held_out(results: Results) -> str:
    test = results.test
    if test.empty:
        return counted(results.clips["clip_id"].nunique(), "clip") if len(results.clips) else "none yet"
    text = f"{len(test):,}"
    if "source_id" in test:
        text += f" from {counted(test['source_id'].nunique(), 'source')}"
    return text


def _column_values(results: Results, column: str) -> str:
    if column not in results.metrics_text:
        return ""
    return ", ".join(sorted({value for value in results.metrics_text[column] if value}))


def ordered_metrics(results: Results) -> pd.DataFrame:
    """Sort metrics.csv for reading: experiments in order, the last stage first, baselines last."""
    table = results.metrics.copy()
    if table.empty:
        return table
    place = {name: index for index, name in enumerate(results.experiments)}
    keys = pd.DataFrame(
        {
            "baseline": table["stage"] == BASELINE,
            "experiment": table["experiment"].map(place),
            "stage": -table["stage"].map(ORDER).fillna(5),
            "variant": table["variant"].map(VARIANT_ORDER).fillna(8),
        }
    )
    return table.loc[keys.sort_values(list(keys.columns), kind="stable").index]


def metrics_table(results: Results) -> dict[str, Any]:
    """Give all rows of metrics.csv, each number rounded for reading beside the text of the file."""
    table = ordered_metrics(results)
    metrics = [METRICS[key] for key in METRICS if key in table and table[key].notna().any()]
    final = {name: results.final_stage(name) for name in results.experiments}
    rows = []
    texts = results.metrics_text.loc[table.index]
    for (_, row), (_, raw) in zip(table.iterrows(), texts.iterrows(), strict=True):
        rows.append(
            {
                "experiment": row["experiment"],
                "stage": stage_label(row["stage"]),
                "variant": variant_label(row["variant"]),
                "key": row["variant"],
                "final": row["variant"] == "rec" and final.get(row["experiment"]) == row["stage"],
                "cells": [_cell(row, raw, metric.key) for metric in metrics],
                "clips": raw.get("clips", ""),
                "frames": raw.get("frames", ""),
            }
        )
    conditions = ("flow", "resolution", "lpips_weights", "spatial_weights", "version")
    said = [(name.replace("_", " "), _column_values(results, name)) for name in conditions]
    return {"metrics": metrics, "rows": rows, "conditions": [(k, v) for k, v in said if v]}


def _cell(row: pd.Series, raw: pd.Series, metric: str) -> dict[str, str]:
    decimals = METRICS[metric].decimals
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    interval = ""
    if pd.notna(low) and pd.notna(high):
        interval = f"{number(low, decimals)} to {number(high, decimals)}"
    return {"metric": metric, "raw": raw[metric], "text": number(row[metric], decimals), "interval": interval}


def results_section(results: Results, shelf: Shelf) -> dict[str, Any]:
    """Give the table of metrics, their intervals as figures, and the paired differences."""
    table = metrics_table(results)
    plotted = ordered_metrics(results)
    many = len(results.experiments) > 1
    section: dict[str, Any] = {"table": table, "many_experiments": many, "intervals": [], "differences": None}
    if plotted.empty:
        return section
    plotted = _without_repeats(plotted)
    base = results.experiments[0]
    plotted["label"] = [
        _row(row).short if row["experiment"] == base else f"{_row(row).short}, {row['experiment']}"
        for _, row in plotted.iterrows()
    ]
    for metric in table["metrics"]:
        complete = plotted.reindex(columns=[*plotted.columns, *_ends(metric.key, plotted)])
        picture = figures.metric_intervals(complete.dropna(subset=[metric.key]), metric.key)
        text = f"{metric.label} of every row of the table with its 95 % interval"
        section["intervals"].append(shelf.place(f"metric_{metric.key}", picture, text))
    section |= _spread_figures(results, shelf)
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


def _spread_figures(results: Results, shelf: Shelf) -> dict[str, Any]:
    experiment = results.experiments[0]
    final = results.final_stage(experiment)
    if final is None:
        return {}
    found: dict[str, Any] = {"over_time": over_time_figures(results, shelf)}
    rec, spatial = (Row(experiment=experiment, stage=final, variant=v) for v in ("rec", "spatial"))
    pairs = pd.DataFrame({row.variant: compare.clip_values(results, row, "psnr") for row in (spatial, rec)})
    if len(pairs.dropna()):
        picture = figures.rec_against_spatial(pairs)
        text = "PSNR of each clip with the video VAE against the spatial VAE alone"
        found["scatter"] = shelf.place("clips_rec_against_spatial", picture, text)
    return found


def over_time_figures(results: Results, shelf: Shelf) -> list[str]:
    """Draw PSNR against the frame's place in its clip for each stage of the base run, on one scale."""
    experiment = results.experiments[0]
    table = results.frames[results.frames["experiment"] == experiment]
    table = table[table["psnr"].notna()]
    stages = [stage for stage in ORDER if stage != BASELINE and (table["stage"] == stage).any()]
    if not stages:
        return []
    scored = table[table["stage"].isin(stages)].groupby(["stage", "variant", "frame"])["psnr"]
    low, high = float(scored.quantile(0.1).min()), float(scored.quantile(0.9).max())
    margin = 0.08 * (high - low) or 1.0
    drawn = []
    for stage in stages:
        rows = table[(table["stage"] == stage) & table["variant"].isin(["rec", "spatial"])]
        limits = (low - 2 * margin, high + margin)
        picture = figures.over_time(rows, stage_label(stage), results.config.model.chunk_frames, limits)
        text = f"PSNR against the frame of the clip after {stage_label(stage).lower()}"
        drawn.append(shelf.place(f"psnr_over_time_{stage}", picture, text))
    return drawn


def difference_table(found: Sequence[Difference], *, with_experiment: bool) -> dict[str, Any] | None:
    """Arrange paired differences as a table: one row a pair, one cell a metric."""
    if not found:
        return None
    metrics = [METRICS[key] for key in METRICS if any(difference.metric == key for difference in found)]
    rows: dict[tuple[Row, Row], dict[str, Any]] = {}
    for difference in found:
        key = (difference.first, difference.second)
        names = [row.label(with_experiment=with_experiment) for row in key]
        row = rows.setdefault(key, {"first": names[0], "second": names[1], "cells": {}, "clips": 0})
        row["clips"] = max(row["clips"], difference.clips)
        decimals = METRICS[difference.metric].decimals
        ends = [number(end, decimals, signed=True) for end in (difference.low, difference.high)]
        row["cells"][difference.metric] = {
            "text": number(difference.mean, decimals, signed=True),
            "interval": "" if MISSING in ends else f"{ends[0]} to {ends[1]}",
            "verdict": difference.verdict,
        }
    return {"metrics": metrics, "rows": list(rows.values())}


def training_section(results: Results, shelf: Shelf) -> dict[str, Any]:
    """Give the curves of the stages, and a table of what each did."""
    logs = training_figures.with_shares(results.logs)
    stages = training_figures.stages_in(logs)
    section: dict[str, Any] = {"stages": stage_rows(results), "losses": [], "machine": []}
    section["spatial"] = spatial_training(results, shelf)
    base = logs[logs["experiment"] == results.experiments[0]]
    for part, panels in (("losses", training_figures.LOSSES), ("machine", training_figures.MACHINE)):
        shown = training_figures.panels_with_data(base, panels)
        for stage in stages if shown else []:
            rows = {results.experiments[0]: base[base["stage"] == stage]}
            if rows[results.experiments[0]].empty:
                continue
            picture = training_figures.training_stage(rows, shown, base)
            text = f"{'Losses and validation' if part == 'losses' else 'Rates and resources'} of {stage_label(stage)}"
            name = f"training_{part}_{stage}"
            section[part].append({"title": stage_label(stage), "svg": shelf.place(name, picture, text)})
    return section


def spatial_training(results: Results, shelf: Shelf) -> dict[str, str] | None:
    """Say how the small spatial VAE was trained, where it was and left a record."""
    record = next((run.record for run in results.runs if run.record.get("command") == "train-spatial"), None)
    if record is None:
        return None
    rows = [row for row in record.get("log") or [] if isinstance(row, dict)]
    psnr = record.get("psnr")
    found = {
        "steps": f"{rows[-1].get('step', 0):,}" if rows else MISSING,
        "time": duration(record.get("seconds")),
        "psnr": number(psnr if isinstance(psnr, float) else None, METRICS["psnr"].decimals),
        "figure": "",
    }
    if rows:
        table = pd.DataFrame(rows).assign(event="valid", experiment="", stage="")
        shown = training_figures.panels_with_data(table, training_figures.SPATIAL)
        if shown:
            picture = training_figures.training_stage({"": table}, shown, table)
            found["figure"] = shelf.place("training_spatial", picture, "Training of the spatial VAE")
    return found


def stage_rows(results: Results) -> list[dict[str, str]]:
    """Say of each stage what it trains, on what, how long, and where it got to."""
    experiment = results.experiments[0]
    rows = []
    for name, stage in results.config.stages:
        table = results.logs[(results.logs["experiment"] == experiment) & (results.logs["stage"] == name)]
        record = next((run.record for run in results.runs if run.name == f"{experiment}/{name}"), {})
        events = table["event"].value_counts()
        losses = [
            f"{weight:g} × {label}"
            for label, weight in (
                ("L1", stage.reconstruction_weight),
                ("identity", stage.identity_weight),
                ("LPIPS", stage.perceptual_weight if stage.objective == "pixels" else 0),
                ("KL", stage.kl_weight),
            )
            if weight
        ]
        done = pd.to_numeric(table.loc[table["event"] == "train", "step"], errors="coerce").max()
        short, long = stage.frames
        rows.append(
            {
                "stage": stage_label(name),
                "trained": "temporal and spatial VAE" if stage.train_spatial else "temporal VAE",
                "target": "pixels" if stage.objective == "pixels" else "spatial latents",
                "losses": ", ".join(losses),
                "frames": f"{short}" if short == long else f"{short} to {long}",
                "images": f"{100 * stage.image_share:.0f} %",
                "steps": f"{int(done):,}" if pd.notna(done) else "not run",
                "batch": f"{stage.global_batch}",
                "time": duration(record.get("seconds")),
                "restarts": str(int(events.get("resume", 0))),
            }
        )
    return rows


def experiments_section(results: Results, shelf: Shelf) -> dict[str, Any] | None:
    """Compare several experiments: settings, paired differences, curves laid over each other."""
    if len(results.experiments) < 2:
        return None
    base = results.experiments[0]
    found = compare.differences(results, compare.experiment_pairs(results))
    section: dict[str, Any] = {"base": base, "names": results.experiments, "curves": [], "intervals": []}
    section["differences"] = difference_table(found, with_experiment=True)
    for metric in METRICS:
        same = [difference for difference in found if difference.metric == metric]
        if same:
            labels = [f"{difference.first.experiment} − {base}" for difference in same]
            picture = figures.paired_differences(same, labels)
            text = f"Paired differences in {METRICS[metric].label} against {base}"
            section["intervals"].append(shelf.place(f"experiments_{metric}", picture, text))
    panels = [panel for panel in training_figures.LOSSES if panel.held_out]
    shown = training_figures.panels_with_data(results.logs, panels)
    for stage in training_figures.stages_in(results.logs) if shown else []:
        rows = results.logs[results.logs["stage"] == stage]
        tables = {name: rows[rows["experiment"] == name] for name in results.experiments}
        tables = {name: table for name, table in tables.items() if len(table)}
        if len(tables) > 1:
            picture = training_figures.training_stage(tables, shown, results.logs)
            svg = shelf.place(f"experiments_{stage}", picture, f"{stage_label(stage)} of several experiments")
            section["curves"].append({"title": stage_label(stage), "svg": svg})
    return section
