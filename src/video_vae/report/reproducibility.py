"""The sections on data, peers and making: plain values for their templates."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd

from video_vae.config import Reconstruction
from video_vae.config.files import is_json_text
from video_vae.config.protocols import scored_as
from video_vae.data.table import is_pan
from video_vae.report import figures, key_facts, provenance_view
from video_vae.report.graph import draw_graph, layers, parse_dot
from video_vae.report.published import PUBLISHED, SOURCE
from video_vae.report.sections import FigureWriter, flow_names, shared_sources, spatial_name
from video_vae.report.tables import Results, Run
from video_vae.report.terms import METRICS, counted, duration, number, stage_label
from video_vae.report.typed import typed

LISTED = 200
"""Most rows of a table of clips or rejected files that the page lists."""
STAGE_RULES = ("train_stage1", "train_stage2", "train_stage3")


def data_section(results: Results) -> dict[str, Any]:
    """Count and list the clips, and the files and clips that were rejected or failed, with their reasons."""
    manifest = results.manifest
    summary = []
    for name, table in (("Training", results.train), ("Held out", results.test)):
        if not table.empty:
            summary.append({"name": name, **_counts(table)})
    made = int(results.train["path"].map(is_pan).sum()) if "path" in results.train else 0
    rejected = results.rejected
    reasons = rejected["reason"].value_counts() if "reason" in rejected else pd.Series(dtype=int)
    return {
        "summary": summary,
        "shared": shared_sources(results),
        "pans": f"{made:,}" if made else "",
        "clips": [_clip_row(row) for _, row in manifest.head(LISTED).iterrows()],
        "clips_total": len(manifest),
        "rejected": rejected.head(LISTED).to_dict("records"),
        "rejected_total": len(rejected),
        "failed": results.failed.head(LISTED).to_dict("records"),
        "failed_total": len(results.failed),
        "reasons": [(str(reason), int(count)) for reason, count in reasons.items()],
        "listed": LISTED,
    }


def _counts(table: pd.DataFrame) -> dict[str, str]:
    kinds = table["kind"] if "kind" in table else pd.Series("video", index=table.index)
    videos = table[kinds == "video"]
    rates = pd.to_numeric(videos["fps"], errors="coerce")
    seconds = float((videos["num_frames"] / rates.where(rates > 0)).sum())
    return {
        "clips": f"{len(videos):,}",
        "images": f"{int((kinds == 'image').sum()):,}",
        "sources": f"{table['source_id'].nunique():,}" if "source_id" in table else "–",
        "frames": f"{int(videos['num_frames'].sum()):,}",
        "length": duration(seconds),
    }


def _clip_row(row: pd.Series) -> dict[str, str]:
    fps = row.get("fps")
    start, frames = int(row.get("start_frame", 0) or 0), int(row.get("num_frames", 0) or 0)
    return {
        "clip_id": str(row.get("clip_id", "")),
        "kind": str(row.get("kind", "")),
        "split": str(row.get("split", "")) if pd.notna(row.get("split")) else "",
        "frames": f"{frames:,}" if start == 0 else f"{frames:,} from {start:,}",
        "size": f"{row.get('width')}×{row.get('height')}",
        "fps": number(float(fps), 2) if pd.notna(fps) else "–",
        "path": str(row.get("path", "")),
    }


def published_section(results: Results) -> dict[str, Any]:
    """Put this run beside published figures and say what may be compared."""
    own = []
    for experiment in results.experiments:
        stage = results.final_stage(experiment)
        for variant, name in (("rec", f"This run ({experiment})"), ("spatial", "This run, spatial VAE alone")):
            row = results.row(experiment, stage, variant) if stage else None
            if row is not None and (variant == "rec" or experiment == results.experiments[0]):
                cells = [number(row.get(key), METRICS[key].decimals) for key in ("psnr", "ssim", "lpips")]
                measured = f"{counted(int(row['clips']), 'held-out clip')}, after {stage_label(str(stage)).lower()}"
                own.append({"model": name, "data": measured, "cells": cells, "note": ""})
    published = []
    for entry in PUBLISHED:
        cells = [number(entry.psnr, 2), number(entry.ssim, 4), number(entry.lpips, 4), number(entry.fvd, 1)]
        published.append({"model": entry.model, "data": entry.data, "cells": cells, "note": entry.note})
    return {"own": own, "published": published, "source": SOURCE, "statements": _statements(results)}


def _statements(results: Results) -> list[str]:
    config = scored_as(results.config)
    height, width = config.data.resolution
    spatial = spatial_name(results)
    flow = flow_names(results)
    same_size = (height, width) == (256, 256)
    said = [
        "Different data: each published row was measured on the set that it names, this run on its own held-out clips. "
        "A few dB between data sets are usual, so no row here ranks above or below a published one.",
        _spread(),
        f"Resolution: published 256×256, this run {height}×{width}."
        + ("" if same_size else " Lower resolutions hold more detail a pixel and score lower with the same net."),
        f"Frames per clip: published 33 or as noted, this run {_frames(config.reconstruction)}.",
        f"Weights: this run's spatial VAE is {spatial}; the published nets start from one that saw millions of images "
        "and train for hundreds of thousands of steps.",
        "The same in both: the definitions of PSNR, SSIM and LPIPS (AlexNet, v0.1). " + _fvd(results),
        "The gap between a run's video VAE and its own spatial VAE alone says what compression in time costs, and is "
        "the figure that carries over best.",
    ]
    if flow and "pwc" not in flow.lower():
        said.append(f"FloLPIPS was computed with {flow} flow, not PWC-Net: do not compare it with published FloLPIPS.")
    return said


def _spread() -> str:
    """Say how far apart published figures of one net's weights are."""
    name = "Open-Sora 1.2 VAE"
    quoted = [entry.psnr for entry in PUBLISHED if entry.model == name and entry.data.startswith("WebVid")]
    return (
        f"The same weights get other numbers elsewhere: {name} is quoted at {min(quoted):.2f} to {max(quoted):.2f} dB "
        "on clips of WebVid, by papers that choose clips, frames and sizes in their own ways."
    )


def _frames(how: Reconstruction) -> str:
    if how.max_frames is None:
        return "all"
    return f"up to {how.max_frames}" + (f" in each of up to {how.windows} windows" if how.windows > 1 else "")


def _fvd(results: Results) -> str:
    table = results.metrics_text
    rows = table[table["rfvd"] != ""] if "rfvd" in table else table[:0]
    if rows.empty:
        return "FVD is not measured here."
    said = [f"{row.experiment} {row.stage} {row.variant}: {row.rfvd} ({row.rfvd_name})" for row in rows.itertuples()]
    nets = ", ".join(sorted(set(rows["rfvd_features"])))
    return f"FVD depends on net, samples, frames and stride; here, with {nets}, {'; '.join(said)}."


def read_rulegraph(path: Path | None) -> tuple[str | None, nx.DiGraph[str] | None]:
    """Read a job graph: an SVG file in base64, or a graph from Snakemake's dot text."""
    if path is None or not path.is_file():
        return None, None
    content = path.read_bytes()
    if b"<svg" in content:
        return base64.b64encode(content).decode(), None
    graph = parse_dot(content.decode("utf-8", errors="replace"))
    return None, graph if len(graph) else None


def reproducibility_section(
    results: Results, writer: FigureWriter, rulegraph: Path | None, configfile: str
) -> dict[str, Any]:
    """Say how the run was made, and what to type to make it again."""
    svg, graph = read_rulegraph(rulegraph)
    rules: list[str] = list(STAGE_RULES)
    picture: Any = None
    if graph is not None:
        depth, labels = layers(graph), dict(graph.nodes(data="label"))
        rules = list(dict.fromkeys(labels[node] for node in sorted(depth, key=lambda n: (depth[n], labels[n]))))
        picture = writer.save("rulegraph", draw_graph(graph), "Rules of the workflow and what each needs")
    jobs = provenance_view.job_costs(results.benchmarks)
    return {
        "graph": picture,
        "graph_file": svg,
        "jobs": [_job_row(row) for _, row in jobs.iterrows()],
        "cost": _cost(jobs),
        "cost_figures": _cost_figures(jobs, writer),
        "settings": provenance_view.changed_settings(results.config),
        "config": provenance_view.config_text(results.config),
        "facts": key_facts.key_facts(results.runs) + key_facts.checks(results.conditions),
        "weights": key_facts.weights_used(results.conditions, results.runs),
        "environment": provenance_view.environment(results.runs),
        "lines": [(run.name, line) for run in results.runs if (line := command_line(run))],
        "explore": typed("reports/explore.html", configfile),
        "commands": provenance_view.rerun_commands(rules, configfile),
    }


def command_line(run: Run) -> str:
    """Give the command that made a run, settings given as JSON left out."""
    command, arguments = run.record.get("command"), run.record.get("arguments") or []
    if not command:
        return ""
    shown = ["CONFIG" if is_json_text(argument) else str(argument) for argument in arguments]
    return f"video-vae {shlex.join([str(command), *shown])}"


def _job_row(row: pd.Series) -> dict[str, str]:
    return {
        "job": str(row["job"]),
        "jobs": str(row["jobs"]),
        "time": duration(row["s"]),
        "longest": duration(row["longest"]),
        "memory": f"{row['max_rss'] / 1000:.2f} GB" if pd.notna(row["max_rss"]) else "–",
        "cpu": duration(row["cpu_time"]),
        "load": f"{row['mean_load']:.0f} %" if pd.notna(row["mean_load"]) else "–",
    }


def _cost(jobs: pd.DataFrame) -> str:
    if jobs.empty:
        return ""
    largest = f", {jobs['max_rss'].max() / 1000:.2f} GB of memory at most" if jobs["max_rss"].notna().any() else ""
    return (
        f"{jobs['jobs'].sum()} jobs took {duration(jobs['s'].sum())}, one after another, and "
        f"{duration(jobs['cpu_time'].sum())} of processor time{largest}."
    )


def _cost_figures(jobs: pd.DataFrame, writer: FigureWriter) -> list[Any]:
    if jobs.empty:
        return []
    shown = jobs.head(24)
    time = figures.costs(shown, "s", "Wall time, s")
    drawn = [writer.save("cost_time", time, "Wall time of each job")]
    if shown["max_rss"].notna().any():
        memory = figures.costs(shown, "max_rss", "Largest resident memory, GB", 1e-3)
        drawn.append(writer.save("cost_memory", memory, "Largest resident memory of each job"))
    return drawn
