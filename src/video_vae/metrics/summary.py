"""Tables per frame and per clip, and means over clips with standard deviations and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from video_vae.config.types import OPTIONAL_METRICS
from video_vae.metrics.intervals import CONFIDENCE, Values, estimate, source_values
from video_vae.metrics.pixel import PSNR_CAP, PSNR_FLOOR, psnr_from_mse
from video_vae.metrics.scoring import MOVED, ClipScores

COLUMNS = ("psnr", "mse", "ssim", "lpips", "flolpips", "flicker")
"""Columns that a table of frames always has; those of metrics that were not chosen are empty."""
CLIP_COLUMNS = ("psnr", "psnr_pooled", "psnr_capped", "ssim", "lpips", "flolpips", "flicker")
RANGES = {"psnr": (0.0, PSNR_CAP), "psnr_pooled": (0.0, PSNR_CAP), "ssim": (-1.0, 1.0), "vmaf": (0.0, 100.0)}
"""Values that a metric can have, where that is not any from zero on; its interval ends there."""
BOOTSTRAP_VALUES = 1_000_000
"""Values of the bootstrap's resamples that are held at once."""
WINDOW = "window"
"""Column of the table of frames that tells the windows of a clip apart, where any has several."""
SOURCE = "source_id"
"""Column of the table of clips that says which source a clip was cut from, where that is known."""


def frames_table(scores: Sequence[ClipScores]) -> pd.DataFrame:
    """Put the scores of all frames in one table, in the order of the clips: one row per frame and variant.

    Where any clip has several windows, `window` is the first frame of each in the clip, and `frame` counts from there.
    """
    parts = [pd.DataFrame(_rows(clip)) for clip in scores]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    windows = [WINDOW] if any(clip.window for clip in scores) else []
    more = [name for name in (*OPTIONAL_METRICS, MOVED) if name in table]
    return table.reindex(columns=["variant", "clip_id", *windows, "frame", *COLUMNS, *more])


def _rows(clip: ClipScores) -> dict[str, Any]:
    frames = len(next(iter(clip.values.values())))
    return {
        "variant": clip.variant,
        "clip_id": clip.clip_id,
        WINDOW: clip.window,
        "frame": np.arange(frames),
        **clip.values,
    }


def clips_table(frames: pd.DataFrame, sources: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Average the frames of each clip: one row per clip and variant, in the order of the frames.

    `psnr` is the mean of the frames' PSNR, `psnr_pooled` the PSNR of the clip's mean squared error, `psnr_capped` the
    number of frames so close to the original that their PSNR was capped at 100 dB. Where `sources` names the source of
    any clip, a column `source_id` holds them.
    """
    groups = frames.assign(psnr_capped=frames["mse"] < PSNR_FLOOR).groupby(["variant", "clip_id"], sort=False)
    more = [name for name in (*OPTIONAL_METRICS, MOVED) if name in frames]
    averaged = [name for name in COLUMNS if name in frames] + more
    table = groups[averaged].mean()
    error = torch.from_numpy(table["mse"].to_numpy(copy=True))
    table["psnr_pooled"] = np.where(error.isnan(), np.nan, psnr_from_mse(error).numpy())
    table["psnr_capped"] = groups["psnr_capped"].sum()
    table["frames"] = groups.size()
    table = table[["frames", *CLIP_COLUMNS, *more]].reset_index()
    return table.assign(**{SOURCE: table["clip_id"].map(dict(sources)).fillna("")}) if sources else table


def summarize(clips: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Summarize each variant: number of clips and frames, and statistics over clips, each clip counting once."""
    variants: dict[str, Any] = {}
    for variant, table in clips.groupby("variant", sort=False):
        entry: dict[str, Any] = {"clips": len(table), "frames": int(table["frames"].sum())}
        sources = known_sources(table)
        if sources is not None:
            entry["sources"] = len(source_values(np.zeros(len(table)), sources)[0])
        for name in (*CLIP_COLUMNS, *OPTIONAL_METRICS):
            if name not in table or name == "psnr_capped" or table[name].isna().all():
                continue
            limits = RANGES.get(name, (0.0, np.inf))
            entry[name] = statistics(table[name].to_numpy(dtype=float), resamples, seed, sources, limits)
            if name == "psnr":
                entry["psnr_capped"] = int(table["psnr_capped"].sum())
        variants[str(variant)] = entry
    return variants


def known_sources(clips: pd.DataFrame) -> list[str] | None:
    """List the source of each clip of a table; None where none are known."""
    return clips[SOURCE].fillna("").astype(str).tolist() if SOURCE in clips else None


def statistics(
    values: Values,
    resamples: int,
    seed: int,
    sources: Sequence[str] | None = None,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Mapping[str, float | int | None]:
    """Return mean, standard deviation (n - 1) and 95 % interval of the mean (`low`, `high`) by `metrics.intervals`.

    NaN (a clip without a second frame has no FloLPIPS) is left out; `clips` counts the others, `sources` the sources
    that they come from. With one clip there is neither deviation nor interval, with one source no interval.
    `bootstrap_low` and `bootstrap_high` are the percentile bootstrap's interval over sources, which others report; it
    is too narrow with few. The same seed gives the same. An interval ends where the possible values do (`limits`).
    """
    known = ~np.isnan(values)
    kept = values[known]
    if not len(kept):
        return dict.fromkeys(("mean", "std", "low", "high", "bootstrap_low", "bootstrap_high")) | {
            "clips": 0,
            "sources": 0,
        }
    named = None if sources is None else [name for name, there in zip(sources, known, strict=True) if there]
    found = estimate(kept, named)
    several = found.sources > 1
    result: dict[str, float | int | None] = {"mean": found.mean, "clips": found.clips, "sources": found.sources}
    result["std"] = float(kept.std(ddof=1)) if len(kept) > 1 else None
    low, high = np.clip([found.low, found.high], *limits).tolist()
    result |= {"low": low if several else None, "high": high if several else None}
    ends = _bootstrap(source_values(kept, named)[0], resamples, seed) if several else (None, None)
    return result | dict(zip(("bootstrap_low", "bootstrap_high"), ends, strict=True))


def _bootstrap(units: Values, resamples: int, seed: int) -> tuple[float, float]:
    if np.ptp(units) == 0:
        return float(units[0]), float(units[0])
    found = stats.bootstrap(
        (units,),
        np.mean,
        n_resamples=resamples,
        batch=1 + BOOTSTRAP_VALUES // len(units),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
