"""Put the page together: every section's values, the templates, and all that they need inside one file."""

from __future__ import annotations

import base64
import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from video_vae import __version__
from video_vae.report import experiments, players, reproducibility, rivals, sections, strips, training_view
from video_vae.report.groups import group_sections
from video_vae.report.lost import lost_outputs
from video_vae.report.style import COLOURS
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, VARIANT_NOTES, variant_label
from video_vae.report.typed import typed

SCRIPTS = ("player.js", "view.js", "chart.js", "table.js", "page.js")


def render(
    results: Results,
    figures: Path,
    *,
    rulegraph: Path | None = None,
    configfile: str = "CONFIG.yaml",
) -> str:
    """Make the page as text: self-contained, no network. Figures are saved in a folder on the way."""
    writer = sections.FigureWriter(figures)
    embedded, left_out = players.make_players(results, results.config.report.clips)
    shown, unread = strips.make_strips(results)
    context: dict[str, Any] = {
        "version": __version__,
        "head": sections.head(results),
        "hero": strips.hero(results),
        "results": sections.results_section(results, writer),
        "groups": group_sections(results, writer),
        "notes": [(variant_label(key), note) for key, note in VARIANT_NOTES.items()] + rivals.notes(results),
        "metrics": list(METRICS.values()),
        "metrics_csv": _download(results.root / "metrics.csv"),
        "players": embedded,
        "players_problems": left_out,
        "clips_data": _script_json(_clips_data(results, embedded)),
        "lost_pictures": _lost_pictures(results, configfile),
        "strips": shown,
        "strips_problems": unread,
        "error_ceiling": strips.ERROR_CEILING,
        "error_gradient": _gradient(),
        "training": training_view.training_section(results, writer),
        "experiments": experiments.experiments_section(results, writer),
        "standing": reproducibility.published_section(results),
        "data": reproducibility.data_section(results),
        "making": reproducibility.reproducibility_section(results, writer, rulegraph, configfile),
        "style": _palette() + _asset("page.css"),
        "scripts": [_asset(name) for name in SCRIPTS],
    }
    return environment().get_template("report.html").render(context)


def environment() -> Environment:
    """Return what renders the templates of the page."""
    return Environment(
        loader=PackageLoader("video_vae.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return resources.files("video_vae.report").joinpath("templates", name).read_text(encoding="utf-8")


def _palette() -> str:
    """Write the figures' colours as variables of the page, for light and dark."""
    light, dark = (";".join(f"--{key}:{value[side]}" for key, value in COLOURS.items()) for side in (0, 1))
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _gradient() -> str:
    colours = strips.error_colours()[::17]
    return ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours.tolist())


def _download(path: Path) -> str | None:
    """Give a file as a data URI to save it from the page; None where it is missing."""
    if not path.is_file():
        return None
    return f"data:text/csv;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _lost_pictures(results: Results, configfile: str) -> str | None:
    """Return the command that makes missing clips of the base run's last stage again; None where none is missing."""
    final = results.final_stage(results.experiments[0])
    if final is None:
        return None
    clips = str(results.folder(results.experiments[0], final) / "reconstruction_")
    lost = [part for part in lost_outputs(results.settings, results.root) if part.paths[-1].startswith(clips)]
    targets = [
        Path(results.root.name, Path(target).relative_to(results.root)) for part in lost for target in part.targets
    ]
    named = " ".join(shlex.quote(str(target)) for target in targets)
    return typed(f"-f {named}", configfile) if targets else None


def _script_json(value: Any) -> str:
    """Write a value so that it may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _clips_data(results: Results, embedded: list[players.Player]) -> dict[str, Any]:
    metrics = [
        {"key": m.key, "label": m.label, "unit": m.unit, "decimals": m.decimals, "higher": m.higher_is_better}
        for m in METRICS.values()
    ]
    return {
        "clips": [player.clip for player in embedded],
        "metrics": metrics,
        "chunk": results.config.chunk_frames,
        "sources": players.sources_of_clips(results.manifest, results.test),
        "table": players.clip_table(results, [player.clip["id"] for player in embedded]),
        "errorColours": base64.b64encode(strips.error_colours().tobytes()).decode(),
        "errorCeiling": strips.ERROR_CEILING,
    }
