"""Image strips from the losslessly stored frames: original, reconstructions, and where they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from video_vae.data.storage import LOSSLESS_SUFFIX, iter_lossless, lossless_info
from video_vae.errors import UserError
from video_vae.report.compare import Row, clip_values, rival_rows
from video_vae.report.tables import Results
from video_vae.report.terms import METRICS, number, variant_label

ERROR_CEILING = 64
"""Mean absolute difference over RGB, of 255, that gets the brightest colour of the error maps."""
FRAMES = 4
"""Frames of a clip in its strip."""
COMPARED = ("rec", "spatial")


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """One row of a strip: the same frames, one beside the other, as one image."""

    label: str
    image: str
    """Data URI."""
    is_error: bool
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Some frames of one clip."""

    clip_id: str
    title: str
    score: str
    frames: tuple[int, ...]
    rows: tuple[StripRow, ...]


def error_colours() -> np.ndarray:
    """Give the colours of the error maps, from none to the ceiling: uint8 (256,3)."""
    return (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def error_map(original: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Colour the absolute difference, averaged over RGB: two uint8 (...,3) give uint8 (...,3)."""
    difference = np.abs(original.astype(np.float32) - other.astype(np.float32)).mean(axis=-1)
    level = np.clip(difference * (255 / ERROR_CEILING), 0, 255).astype(np.uint8)
    return error_colours()[level]


def data_uri(image: np.ndarray, *, lossless: bool = True, quality: int = 82) -> str:
    """Encode an image, uint8 (H,W,3), as a WebP data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", lossless=lossless, quality=80 if lossless else quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pick_frames(path: Path, indices: Sequence[int]) -> np.ndarray:
    """Read some frames of a stored clip, in memory that does not grow with its length: uint8 (N,H,W,3).

    Raises:
        UserError: if the file is missing, damaged, or too short.
    """
    wanted: dict[int, np.ndarray] = {}
    start = 0
    for frames in iter_lossless(path):
        wanted |= {index: frames[index - start] for index in indices if start <= index < start + len(frames)}
        start += len(frames)
    if len(wanted) < len(set(indices)):
        raise UserError(f"{path} holds {start} frames, fewer than its scores say; reconstruct again")
    return np.stack([wanted[index] for index in indices])


def spread(count: int, most: int) -> list[int]:
    """Pick up to `most` places among `count`, the first and the last among them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most)).round()}) if count else []


def reconstruction_file(results: Results, experiment: str, stage: str, variant: str, clip_id: str) -> Path:
    """Give the lossless file of a clip."""
    folder = results.folder(experiment, stage, variant) / f"reconstruction_{variant}"
    return folder / f"{clip_id}{LOSSLESS_SUFFIX}"


def ranked_clips(results: Results) -> pd.Series:
    """Give the PSNR of the final reconstructions of the base run by clip id, the worst first."""
    experiment = results.experiments[0]
    stage = results.final_stage(experiment)
    if stage is None:
        return pd.Series(dtype=float)
    row = Row(experiment=experiment, stage=stage, variant="rec")
    return clip_values(results, row, "psnr").sort_values(kind="stable")


def make_strips(results: Results) -> tuple[list[Strip], list[str]]:
    """Make strips of the worst, the middle and the best clip; also give what could not be read and why."""
    ranked = ranked_clips(results)
    names = ("worst", "middle", "best") if len(ranked) > 2 else ("worse", "better") if len(ranked) == 2 else ("only",)
    strips, problems = [], []
    for name, place in zip(names, spread(len(ranked), 3), strict=False):
        clip_id, psnr = str(ranked.index[place]), float(ranked.iloc[place])
        score = f"{number(psnr, METRICS['psnr'].decimals)} dB"
        try:
            strips.append(_strip(results, clip_id, f"The {name} clip", score))
        except UserError as error:
            problems.append(str(error))
    return strips, problems


def _strip(results: Results, clip_id: str, title: str, score: str) -> Strip:
    experiment = results.experiments[0]
    stage = results.final_stage(experiment) or ""
    files = {v: reconstruction_file(results, experiment, stage, v, clip_id) for v in ("ori", *COMPARED)}
    for rival in rival_rows(results):
        files[rival.variant] = reconstruction_file(results, experiment, rival.stage, rival.variant, clip_id)
    indices = spread(lossless_info(files["ori"]).frames, FRAMES)
    original = pick_frames(files["ori"], indices)
    rows = [_row(variant_label("ori"), original)]
    for variant, file in files.items():
        if variant == "ori" or not file.exists():
            continue
        frames = pick_frames(file, indices)
        rows += [
            _row(variant_label(variant), frames),
            _row(f"Error of {_named(variant)}", error_map(original, frames), True),
        ]
    return Strip(clip_id=clip_id, title=title, score=score, frames=tuple(indices), rows=tuple(rows))


def _named(variant: str) -> str:
    label = variant_label(variant)
    return f"the {label[0].lower()}{label[1:]}" if variant in COMPARED else label


def _row(label: str, frames: np.ndarray, is_error: bool = False) -> StripRow:
    gap = np.zeros((frames.shape[1], max(1, frames.shape[2] // 48), 3), dtype=np.uint8)
    parts = [part for frame in frames for part in (gap, frame)][1:]
    image = np.concatenate(parts, axis=1)
    return StripRow(label=label, image=data_uri(image), is_error=is_error, width=image.shape[1], height=image.shape[0])


def hero(results: Results) -> list[tuple[str, str]]:
    """Give the picture of the first screen, a frame of the middle clip: labels and data URIs, or nothing."""
    ranked = ranked_clips(results)
    if ranked.empty:
        return []
    experiment = results.experiments[0]
    stage = results.final_stage(experiment) or ""
    clip_id = str(ranked.index[(len(ranked) - 1) // 2])
    files = [reconstruction_file(results, experiment, stage, v, clip_id) for v in ("ori", "spatial", "rec")]
    try:
        index = [lossless_info(files[0]).frames // 2]
        original, spatial, rec = (pick_frames(path, index)[0] for path in files)
    except UserError:
        return []
    return [
        (variant_label("ori"), data_uri(original)),
        (variant_label("spatial"), data_uri(spatial)),
        (variant_label("rec"), data_uri(rec)),
        ("Error of the video VAE", data_uri(error_map(original, rec))),
    ]
