"""Tables a frame and a clip, and means over clips with standard deviations and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from video_vae.metrics.pixel import PSNR_FLOOR, psnr_from_mse
from video_vae.metrics.scoring import ClipScores

COLUMNS = ("psnr", "mse", "ssim", "lpips", "flolpips", "flicker")
"""Columns that a table of frames always has; those of metrics that were not chosen are empty."""
CLIP_COLUMNS = ("psnr", "psnr_pooled", "psnr_capped", "ssim", "lpips", "flolpips", "flicker")
OPTIONAL = ("lpips_vgg",)
"""Columns that are there only where they were asked for."""
CONFIDENCE = 0.95


def frames_table(scores: Sequence[ClipScores]) -> pd.DataFrame:
    """Put the scores of all frames in one table, in the order of the clips: one row a frame and variant."""
    parts = [pd.DataFrame(_rows(clip)) for clip in scores]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    columns = ["variant", "clip_id", "frame", *COLUMNS, *(name for name in OPTIONAL if name in table)]
    return table.reindex(columns=columns)


def _rows(clip: ClipScores) -> dict[str, Any]:
    frames = len(next(iter(clip.values.values())))
    return {"variant": clip.variant, "clip_id": clip.clip_id, "frame": np.arange(frames), **clip.values}


def clips_table(frames: pd.DataFrame) -> pd.DataFrame:
    """Average the frames of each clip: one row a clip and variant, in the order of the frames.

    `psnr` is the mean of the frames' PSNR, `psnr_pooled` the PSNR of the clip's mean squared error, `psnr_capped` the
    number of frames so close to the original that their PSNR was capped at 100 dB.
    """
    groups = frames.assign(psnr_capped=frames["mse"] < PSNR_FLOOR).groupby(["variant", "clip_id"], sort=False)
    averaged = [name for name in (*COLUMNS, *OPTIONAL) if name in frames]
    table = groups[averaged].mean()
    error = torch.from_numpy(table["mse"].to_numpy(copy=True))
    table["psnr_pooled"] = np.where(error.isnan(), np.nan, psnr_from_mse(error).numpy())
    table["psnr_capped"] = groups["psnr_capped"].sum()
    table["frames"] = groups.size()
    return table[["frames", *CLIP_COLUMNS, *(name for name in OPTIONAL if name in table)]].reset_index()


def summarize(clips: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Summarize each variant: number of clips and frames, and statistics over clips, each clip counting once."""
    variants: dict[str, Any] = {}
    for variant, table in clips.groupby("variant", sort=False):
        entry: dict[str, Any] = {"clips": len(table), "frames": int(table["frames"].sum())}
        for name in (*CLIP_COLUMNS, *OPTIONAL):
            if name not in table or name == "psnr_capped" or table[name].isna().all():
                continue
            entry[name] = statistics(table[name].to_numpy(dtype=float), resamples, seed)
            if name == "psnr":
                entry["psnr_capped"] = int(table["psnr_capped"].sum())
        variants[str(variant)] = entry
    return variants


def statistics(values: NDArray[np.float64], resamples: int, seed: int) -> Mapping[str, float | int | None]:
    """Return mean, standard deviation (n - 1) and the bootstrap 95 % interval of the mean (percentiles).

    NaN (a clip without a second frame has no FloLPIPS) is left out; `clips` counts the others. With fewer than two
    clips there is neither deviation nor interval. The same seed gives the same interval.
    """
    known = values[~np.isnan(values)]
    result: dict[str, float | int | None] = {"mean": float(known.mean()) if len(known) else None, "clips": len(known)}
    if len(known) < 2:
        return result | {"std": None, "low": None, "high": None}
    draws = np.random.default_rng(seed)
    means = np.array([known[draws.integers(0, len(known), len(known))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return result | {"std": float(known.std(ddof=1)), "low": float(low), "high": float(high)}
