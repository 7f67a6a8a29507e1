"""How far reconstruction in tiles is from reconstruction of whole frames: measured on a piece that fits in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from video_vae.data.table import Clip
from video_vae.data.transform import Frames
from video_vae.data.video import MediaError
from video_vae.models.tiling import Tiling
from video_vae.reconstruction.clips import ClipReconstructor
from video_vae.reconstruction.variants import ModelVariants

log = logging.getLogger(__name__)

FRAMES = 17
"""Frames that are compared."""


def tiling_error(
    reconstructor: ClipReconstructor, variants: ModelVariants, tiling: Tiling, clips: Sequence[Clip]
) -> dict[str, Any]:
    """Compare both ways on the first readable clip: at most two tiles a side of its middle, at most 17 frames.

    Returns what was compared, the PSNR of one against the other (null where they are equal), their largest difference
    in 8-bit levels, and the PSNR of each against the source.
    """
    found = _sample(reconstructor, clips)
    if found is None:
        return {}
    clip, frames = found
    source = _middle(frames, tiling)
    tiled = _reconstruct(variants, source, clip.clip_id)
    model: Any = variants.model
    before, model.tiling = model.tiling, None
    try:
        whole = _reconstruct(variants, source, clip.clip_id)
    finally:
        model.tiling = before
    height, width = source.shape[1:3]
    return {
        "clip_id": clip.clip_id,
        "frames": len(source),
        "size": f"{height}x{width}",
        "tiles": len(list(tiling.tiles(height, width, model.spatial_compression_ratio))),
        "psnr_to_untiled": _psnr(tiled, whole),
        "largest_difference": int(np.abs(tiled.astype(np.int16) - whole).max()),
        "psnr_tiled": _psnr(tiled, source),
        "psnr_untiled": _psnr(whole, source),
    }


def _sample(reconstructor: ClipReconstructor, clips: Sequence[Clip]) -> tuple[Clip, Frames] | None:
    for clip in clips:
        try:
            return clip, reconstructor.first_frames(clip, FRAMES)
        except MediaError as error:
            log.warning("the error of tiling is not measured on %s: %s", clip.clip_id, error)
    return None


def _middle(frames: Frames, tiling: Tiling) -> Frames:
    """Cut the middle out, as large as two tiles a side."""
    most = 2 * tiling.tile - tiling.overlap
    height, width = (min(side, most) for side in frames.shape[1:3])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def _reconstruct(variants: ModelVariants, frames: Frames, clip_id: str) -> Frames:
    parts = [part for name, part in variants.run(iter([frames]), clip_id, len(frames)) if name == "rec"]
    return np.concatenate(parts)


def _psnr(first: Frames, second: Frames) -> float | None:
    error = float(np.square(first.astype(np.float64) - second).mean())
    return round(10 * float(np.log10(255**2 / error)), 3) if error else None
