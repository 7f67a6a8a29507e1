"""What clips cost and lose: points of rate and distortion, of a codec or of quantised latents, and their table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from video_vae.data.table import write_rows
from video_vae.data.transform import Frames
from video_vae.metrics.pixel import psnr

RATES = "rates.csv"
_PIECE = 8


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One way of coding a window."""

    name: str
    """`x264`, `x265`, or `rec` for quantised latents."""
    setting: float
    """The codec's quality number (crf), or the bits per number that latents were quantised to."""
    pixels: int
    """Frames times height times width."""
    bits: int
    """What it takes, entropy-coded."""
    raw_bits: int
    """What the latents take at a fixed length per number; 0 for a codec."""
    budget: int
    """Most bits that were allowed where the setting was searched for them; 0 for the others."""
    psnr: float
    """Mean over the frames, in dB."""


COLUMNS = ("clip_id", *(field.name for field in fields(Rate)))


def mean_psnr(real: Frames, made: Frames) -> float:
    """Return the mean of the frames' PSNR in dB, both uint8 (T,H,W,3), as the metric of that name has it."""
    starts = range(0, len(real), _PIECE)
    values = [psnr(*(_unit(frames[start : start + _PIECE]) for frames in (real, made))) for start in starts]
    return float(torch.cat(values).mean())


def _unit(frames: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def as_rows(rates: Iterable[Rate]) -> list[dict[str, Any]]:
    """Give points as JSON-like values."""
    return [asdict(rate) for rate in rates]


def write_rates(path: Path, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write the points of clips: clip id -> what `as_rows` gave."""
    lines = ([clip, *(json.dumps(row[name]).strip('"') for name in COLUMNS[1:])] for clip in rows for row in rows[clip])
    write_rows(path, COLUMNS, lines)
