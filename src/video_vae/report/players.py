"""Clips for the page's player: H.264 previews as text, their scores frame by frame, and the table of all clips."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
from PIL import Image

from video_vae.data.storage import PREVIEW_SUFFIX
from video_vae.metrics.summary import WINDOW
from video_vae.report.compare import Row, clip_values, quantised_rows, rival_rows
from video_vae.report.strips import data_uri, ranked_clips, spread
from video_vae.report.tables import BASELINE, COMPARE, Results
from video_vae.report.terms import METRICS, counted, rounded, stage_label, variant_label

MEDIA_LIMIT = 13_000_000
"""Most bytes of embedded videos as text; above it fewer clips are embedded."""
POSTER_WIDTH = 128


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video of a clip, and the row of scores that belongs to it."""

    key: str
    label: str
    path: Path
    row: Row | None


@dataclass(frozen=True, kw_only=True)
class Player:
    """All that the player needs of one clip."""

    clip: dict[str, Any]
    """For the page's script: id, fps, frames, size, poster, videos, series."""
    media: dict[str, str]
    """Key of the video -> its file in base64."""

    @property
    def size(self) -> int:
        """Bytes of the videos as text."""
        return sum(map(len, self.media.values()))


def clip_sources(results: Results, clip_id: str) -> list[Source]:
    """List a clip's previews that exist: original, final reconstructions of each experiment, rivals, a baseline."""
    base = results.experiments[0]
    final = results.final_stage(base)
    if final is None:
        return []
    found = []
    for variant in ("ori", "rec", "spatial"):
        row = None if variant == "ori" else Row(experiment=base, stage=final, variant=variant)
        found.append(_source(results, variant, variant_label(variant), base, final, variant, clip_id, row))
    for row in quantised_rows(results):
        found.append(_source(results, row.variant, variant_label(row.variant), base, final, row.variant, clip_id, row))
    for name in results.experiments[1:]:
        stage = results.final_stage(name)
        if stage is not None:
            row = Row(experiment=name, stage=stage, variant="rec")
            label = f"Video VAE ({name}" + ("" if stage == final else f", {stage_label(stage).lower()}") + ")"
            found.append(_source(results, f"rec-{name}", label, name, stage, "rec", clip_id, row))
    for row in rival_rows(results):
        name = row.variant
        found.append(_source(results, f"rival-{name}", variant_label(name), base, COMPARE, name, clip_id, row))
    row = Row(experiment=base, stage=BASELINE, variant="repeat")
    label = variant_label("repeat")
    found.append(_source(results, "repeat", label, base, BASELINE, "repeat", clip_id, row))
    return [source for source in found if source.path.is_file()]


def _source(
    results: Results, key: str, label: str, experiment: str, stage: str, variant: str, clip_id: str, row: Row | None
) -> Source:
    folder = results.folder(experiment, stage, variant) / "reconstruction_preview"
    return Source(key=key, label=label, path=folder / f"{clip_id}_{variant}{PREVIEW_SUFFIX}", row=row)


def notable_clips(results: Results) -> dict[str, list[str]]:
    """Say which clips stand out among the final reconstructions of the base run: clip id -> why, in few words.

    The worst by each metric come first, then the best and the middle one by PSNR.
    """
    experiment, stage = results.experiments[0], results.final_stage(results.experiments[0])
    if stage is None:
        return {}
    worst: dict[str, list[str]] = {}
    for metric in METRICS.values():
        row = Row(experiment=experiment, stage=stage, variant="rec")
        values = clip_values(results, row, metric.key).dropna().sort_values(kind="stable")
        if len(values) > 1:
            clip_id = str(values.index[0 if metric.higher_is_better else -1])
            worst.setdefault(clip_id, []).append(metric.label)
    found = {clip_id: [f"worst {', '.join(labels)}"] for clip_id, labels in worst.items()}
    ranked = ranked_clips(results).index
    for name, place in (("best PSNR", len(ranked) - 1), ("median PSNR", (len(ranked) - 1) // 2)):
        if len(ranked) > 2:
            found.setdefault(str(ranked[place]), []).append(name)
    return found


def chosen_clips(results: Results, most: int) -> list[str]:
    """List the clips to embed, the most telling first: those that stand out, the worst, a spread of the rest."""
    ranked = [str(name) for name in ranked_clips(results).index]
    rest = [ranked[place] for place in spread(len(ranked), most)]
    return list(dict.fromkeys([*notable_clips(results), *ranked[: most // 3], *rest]))[:most]


def make_players(results: Results, most: int) -> tuple[list[Player], list[str]]:
    """Embed up to `most` clips, ordered from worst to best PSNR; also say what was left out and why."""
    found: dict[str, Player] = {}
    problems: list[str] = []
    without: list[str] = []
    notes = notable_clips(results)
    room = MEDIA_LIMIT
    for clip_id in chosen_clips(results, most):
        player = _player(results, clip_id, notes.get(clip_id, []))
        if player is None:
            without.append(clip_id)
            continue
        if isinstance(player, str):
            problems.append(player)
            continue
        if player.size > room and found:
            limit = MEDIA_LIMIT // 1_000_000
            problems.append(f"Only {len(found)} clips are embedded: more would take over {limit} MB.")
            break
        found[clip_id] = player
        room -= player.size
    if without:
        names = f"{', '.join(without[:3])}{' and others' if len(without) > 3 else ''}"
        problems.append(f"No previews were found of {counted(len(without), 'clip')} that would be shown: {names}.")
    return [found[name] for name in map(str, ranked_clips(results).index) if name in found], problems


def _player(results: Results, clip_id: str, notes: Sequence[str]) -> Player | str | None:
    """Read the previews of a clip; None where there are none, a sentence where they cannot be read."""
    sources = clip_sources(results, clip_id)
    if len(sources) < 2 or sources[0].key != "ori":
        return None
    try:
        facts = _facts(sources[0].path)
    except (av.error.FFmpegError, IndexError) as error:
        return f"The preview of {clip_id} cannot be read: {error}"
    series = {source.key: _series(results, source.row, clip_id) for source in sources if source.row}
    clip = {
        "id": clip_id,
        "notes": list(notes),
        **facts,
        "videos": [{"key": source.key, "label": source.label} for source in sources],
        "series": {key: values for key, values in series.items() if values},
        "means": {source.key: _means(results, source.row, clip_id) for source in sources if source.row},
    }
    media = {source.key: base64.b64encode(source.path.read_bytes()).decode() for source in sources}
    return Player(clip=clip, media=media)


def _facts(path: Path) -> dict[str, Any]:
    """Read size, rate and number of frames of a preview, and its first frame as a small picture."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        image = next(container.decode(stream)).to_image()
        rate = float(stream.average_rate or stream.guessed_rate or 24)
        frames = stream.frames or 1 + sum(1 for _ in container.decode(stream))
    height = max(1, round(image.height * POSTER_WIDTH / image.width))
    poster = np.asarray(image.resize((POSTER_WIDTH, height), Image.Resampling.LANCZOS))
    return {
        "fps": round(rate, 5),
        "frames": int(frames),
        "width": image.width,
        "height": image.height,
        "poster": data_uri(poster, lossless=False),
    }


def _series(results: Results, row: Row, clip_id: str) -> dict[str, list[float | None]]:
    table = results.frames
    match = (table["experiment"] == row.experiment) & (table["stage"] == row.stage)
    match &= (table["variant"] == row.variant) & (table["clip_id"] == clip_id)
    rows = table[match].sort_values("frame")
    if WINDOW in rows:  # the first window is the one that is shown
        rows = rows[rows[WINDOW] == 0]
    found = {key: [rounded(value, metric.decimals) for value in rows[key]] for key, metric in METRICS.items()}
    return {metric: values for metric, values in found.items() if any(value is not None for value in values)}


def _means(results: Results, row: Row, clip_id: str) -> dict[str, float | None]:
    return {
        key: rounded(clip_values(results, row, key).get(clip_id), metric.decimals) for key, metric in METRICS.items()
    }


def clip_table(results: Results, embedded: Sequence[str]) -> dict[str, Any]:
    """List all clips for the page's table: columns, and one list of cells per clip, worst final PSNR first."""
    experiment = results.experiments[0]
    stage = results.final_stage(experiment)
    if stage is None:
        return {"columns": [], "rows": []}
    rec, spatial = (Row(experiment=experiment, stage=stage, variant=v) for v in ("rec", "spatial"))
    metrics = [metric for metric in METRICS if not clip_values(results, rec, metric).dropna().empty]
    columns: list[dict[str, Any]] = [
        {"key": m.key, "label": m.label, "decimals": m.decimals, "higher": m.higher_is_better}
        for m in (METRICS[key] for key in metrics)
    ]
    values = {metric: clip_values(results, rec, metric) for metric in metrics}
    ceiling = clip_values(results, spatial, "psnr")
    table = results.clips
    match = (table["experiment"] == experiment) & (table["stage"] == stage) & (table["variant"] == "rec")
    frames = table[match].set_index("clip_id")["frames"]
    rows = []
    for clip_id, psnr in ranked_clips(results).items():
        gap = psnr - ceiling.get(clip_id, np.nan)
        cells = [rounded(values[metric].get(clip_id), METRICS[metric].decimals) for metric in metrics]
        rows.append([str(clip_id), int(frames.get(clip_id, 0)), *cells, rounded(gap, METRICS["psnr"].decimals)])
    places = METRICS["psnr"].decimals
    columns.append({"key": "gap", "label": "PSNR less spatial", "decimals": places, "higher": True})
    return {"columns": columns, "rows": rows, "embedded": list(embedded)}


def sources_of_clips(manifest: pd.DataFrame, test: pd.DataFrame) -> dict[str, str]:
    """Map clip ids to the file that they come from."""
    table = test if "path" in test and "clip_id" in test else manifest
    if "path" not in table or "clip_id" not in table:
        return {}
    return dict(zip(table["clip_id"].astype(str), table["path"].astype(str), strict=True))
