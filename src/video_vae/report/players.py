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
from video_vae.report.compare import Row, clip_values
from video_vae.report.strips import data_uri, ranked_clips, spread
from video_vae.report.tables import BASELINE, Results
from video_vae.report.terms import METRICS, variant_label

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
    """List the previews of a clip that exist: original, final reconstructions of each experiment, a baseline."""
    base = results.experiments[0]
    final = results.final_stage(base)
    if final is None:
        return []
    found = []
    for variant in ("ori", "rec", "spatial"):
        row = None if variant == "ori" else Row(experiment=base, stage=final, variant=variant)
        found.append(_source(results, variant, variant_label(variant), base, final, variant, clip_id, row))
    for name in results.experiments[1:]:
        stage = results.final_stage(name)
        if stage is not None:
            row = Row(experiment=name, stage=stage, variant="rec")
            found.append(_source(results, f"rec-{name}", f"Video VAE ({name})", name, stage, "rec", clip_id, row))
    row = Row(experiment=base, stage=BASELINE, variant="repeat")
    label = variant_label("repeat")
    found.append(_source(results, "repeat", label, base, BASELINE, "repeat", clip_id, row))
    return [source for source in found if source.path.is_file()]


def _source(
    results: Results, key: str, label: str, experiment: str, stage: str, variant: str, clip_id: str, row: Row | None
) -> Source:
    folder = results.folder(experiment, stage) / "reconstruction_preview"
    return Source(key=key, label=label, path=folder / f"{clip_id}_{variant}{PREVIEW_SUFFIX}", row=row)


def make_players(results: Results, most: int) -> tuple[list[Player], list[str]]:
    """Embed up to `most` clips, spread from worst to best; also say what was left out and why."""
    ranked = [str(name) for name in ranked_clips(results).index]
    problems: list[str] = []
    for count in range(min(most, len(ranked)), 0, -1):
        players, problems = [], []
        for place in spread(len(ranked), count):
            player = _player(results, ranked[place])
            if isinstance(player, str):
                problems.append(player)
            else:
                players.append(player)
        if sum(player.size for player in players) <= MEDIA_LIMIT or count == 1:
            if count < min(most, len(ranked)):
                limit = MEDIA_LIMIT // 1_000_000
                problems.append(f"Only {count} clips are embedded: more would take over {limit} MB.")
            return players, problems
    return [], problems


def _player(results: Results, clip_id: str) -> Player | str:
    sources = clip_sources(results, clip_id)
    if len(sources) < 2 or sources[0].key != "ori":
        return f"No previews of {clip_id} were found."
    try:
        facts = _facts(sources[0].path)
    except (av.error.FFmpegError, IndexError) as error:
        return f"The preview of {clip_id} cannot be read: {error}"
    series = {source.key: _series(results, source.row, clip_id) for source in sources if source.row}
    clip = {
        "id": clip_id,
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
    found = {metric: [_rounded(value) for value in rows[metric]] for metric in METRICS}
    return {metric: values for metric, values in found.items() if any(value is not None for value in values)}


def _means(results: Results, row: Row, clip_id: str) -> dict[str, float | None]:
    found = {}
    for metric in METRICS:
        values = clip_values(results, row, metric)
        found[metric] = _rounded(values.get(clip_id))
    return found


def _rounded(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def clip_table(results: Results, embedded: Sequence[str]) -> dict[str, Any]:
    """List all clips for the page's table: columns, and one list of cells a clip, worst final PSNR first."""
    experiment = results.experiments[0]
    stage = results.final_stage(experiment)
    if stage is None:
        return {"columns": [], "rows": []}
    rec, spatial = (Row(experiment=experiment, stage=stage, variant=v) for v in ("rec", "spatial"))
    metrics = [metric for metric in METRICS if not clip_values(results, rec, metric).dropna().empty]
    columns = [{"key": key, "label": METRICS[key].label, "decimals": METRICS[key].decimals} for key in metrics]
    values = {metric: clip_values(results, rec, metric) for metric in metrics}
    ceiling = clip_values(results, spatial, "psnr")
    table = results.clips
    match = (table["experiment"] == experiment) & (table["stage"] == stage) & (table["variant"] == "rec")
    frames = table[match].set_index("clip_id")["frames"]
    rows = []
    for clip_id, psnr in ranked_clips(results).items():
        gap = psnr - ceiling.get(clip_id, np.nan)
        cells = [_rounded(values[metric].get(clip_id)) for metric in metrics]
        rows.append([str(clip_id), int(frames.get(clip_id, 0)), *cells, _rounded(gap)])
    columns.append({"key": "gap", "label": "PSNR less spatial", "decimals": 2})
    return {"columns": columns, "rows": rows, "embedded": list(embedded)}


def sources_of_clips(manifest: pd.DataFrame, test: pd.DataFrame) -> dict[str, str]:
    """Map clip ids to the file that they come from."""
    table = test if "path" in test and "clip_id" in test else manifest
    if "path" not in table or "clip_id" not in table:
        return {}
    return dict(zip(table["clip_id"].astype(str), table["path"].astype(str), strict=True))
