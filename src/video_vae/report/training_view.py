"""The section on the training: what each stage did, and its curves on one time line."""

from __future__ import annotations

from typing import Any

import pandas as pd

from video_vae.report import training_figures
from video_vae.report.sections import FigureWriter
from video_vae.report.style import PANEL_WIDTH
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, MISSING, duration, number, stage_label
from video_vae.report.timeline import PLACE, Span, TimeLine, lay_out


def training_section(results: Results, writer: FigureWriter) -> dict[str, Any]:
    """Give a table of what each stage of the base run did, and its logs as one time line."""
    base = results.experiments[0]
    logs = training_figures.with_shares(results.logs[results.logs["experiment"] == base])
    section: dict[str, Any] = {"stages": stage_rows(results), "time_line": None, "restarts": 0}
    section["spatial"] = spatial_training(results, writer)
    wanted = [*training_figures.LOSSES, *training_figures.ADVERSARIAL, *training_figures.MACHINE]
    panels = training_figures.panels_with_data(logs, wanted)
    if panels:
        picture = training_figures.training_curves(lay_out({base: logs}, "time"), panels)
        text = "Losses, validation, learning rate, throughput and memory of all stages along the running time"
        section["time_line"] = writer.save("training", picture, text)
        section["restarts"] = int((logs["event"] == "resume").sum())
    return section


def spatial_training(results: Results, writer: FigureWriter) -> dict[str, str] | None:
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
        table = pd.DataFrame(rows).assign(event="valid", stage="")
        shown = training_figures.panels_with_data(table, training_figures.SPATIAL)
        steps = int(table["step"].max())
        span = Span(stage="", start=0.0, end=float(steps), steps=steps, seconds=0.0)
        logs = {"": table.assign(**{PLACE: table["step"]})}
        if shown:
            line = TimeLine(logs=logs, spans=(span,), label="Optimizer step")
            picture = training_figures.training_curves(line, shown, PANEL_WIDTH)
            found["figure"] = writer.save("training_spatial", picture, "Training of the spatial VAE")
    return found


def stage_rows(results: Results) -> list[dict[str, str]]:
    """Say of each stage what it trains, on what, how long, and where it got to."""
    experiment = results.experiments[0]
    rows = []
    for name in results.config.stages.trained:
        stage = results.config.stages.of(name)
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
        if stage.discriminator is not None:
            start = f" from step {stage.discriminator.start_step + 1:,} on" if stage.discriminator.start_step else ""
            losses.append(f"{stage.discriminator.weight:g} × adversarial{start}")
        done = pd.to_numeric(table["step"], errors="coerce").max()
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
                "time": duration(record.get("trained_seconds", record.get("seconds"))),
                "restarts": str(int(events.get("resume", 0))),
            }
        )
    return rows
