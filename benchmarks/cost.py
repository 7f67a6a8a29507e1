"""Count what the paper's run computes, and what that means in GPU hours and bytes. Nothing is run: any machine will do.

    python -m benchmarks.cost [CONFIG]

A multiplication with its addition counts as two operations. Convolutions, matrix products and attention are counted,
forward and backward, by torch's own counter; the rest is left out.
"""

from __future__ import annotations

import sys
from functools import cache

import torch
from diffusers import AutoencoderKL

from video_vae.config import STAGES, Config, load_config
from video_vae.latents.cache import CHANNELS
from video_vae.losses import PerceptualLoss
from video_vae.metrics import LPIPS
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.training.operations import PEAKS, count_operations
from video_vae.training.step import Draws, StageLoss
from video_vae.weights.open_sora import SDXL

GPUS = {name: PEAKS[name]["bf16"] for name in ("A100", "H100")}
"""Dense bf16 peaks, in TFLOP/s."""
SHARE = 0.35
"""Share of the peak that is assumed to be reached; not measured."""
LENGTHS = 5
"""Lengths at which a stage with drawn lengths is counted; what lies between is interpolated."""


@cache
def operations(config: str, stage: str, frames: int) -> float:
    """Count the operations of one clip's forward and backward pass, in 1e12."""
    settings = load_config(config)
    what, (height, width) = getattr(settings.stages, stage), settings.data.resolution
    with torch.device("meta"):
        temporal = TemporalAutoencoderKL(**settings.model.temporal.model_dump(exclude={"init"}))
        vae = VideoAutoencoderKL(AutoencoderKL.from_config(SDXL), temporal)
        pixels = what.objective == "pixels"
        perceptual = _perceptual() if pixels else None
        loss = StageLoss(vae, what, spatial_sample=False, perceptual=perceptual)
        data = (
            torch.zeros(1, 3, frames, height, width) if pixels else torch.zeros(1, 8, frames, height // 8, width // 8)
        )
        draws = Draws(spatial_seeds=[0], temporal_seeds=[0], scored_frames=[list(range(frames))])
    return count_operations(loss, data, not pixels, frames == 1, draws) / 1e12


def _perceptual() -> PerceptualLoss:
    return PerceptualLoss(LPIPS("vgg", spatial=False))


def of_a_clip(config: str, stage: str) -> float:
    """Average the operations of a clip over images and lengths, in 1e12."""
    what = getattr(load_config(config).stages, stage)
    shortest, longest = what.frames
    places = sorted({shortest + (longest - shortest) * index // (LENGTHS - 1) for index in range(LENGTHS)})
    counts = [operations(config, stage, frames) for frames in places]
    if len(counts) == 1:
        video = counts[0]
    else:
        parts = zip(places, places[1:], counts, counts[1:], strict=False)
        video = sum((b - a) * (x + y) / 2 for a, b, x, y in parts) / (longest - shortest)
    return what.image_share * operations(config, stage, 1) + (1 - what.image_share) * video


def table(config: str) -> str:
    """Write the cost of each stage as a table."""
    settings = load_config(config)
    names = " | ".join(f"{gpu}, GPU hours" for gpu in GPUS)
    lines = [
        f"| stage | clips | TFLOP per clip | EFLOP | {names} |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * len(GPUS),
    ]
    sums = [0.0] * (1 + len(GPUS))
    for stage in STAGES:
        what = getattr(settings.stages, stage)
        clips = (what.steps or 0) * what.global_batch
        each = of_a_clip(config, stage)
        total = [clips * each / 1e6, *(clips * each / (peak * SHARE * 3600) for peak in GPUS.values())]
        sums = [a + b for a, b in zip(sums, total, strict=True)]
        hours = " | ".join(f"{value:,.0f}" for value in total[1:])
        lines.append(f"| {stage[-1]} | {clips:,} | {each:.1f} | {total[0]:,.0f} | {hours} |")
    hours = " | ".join(f"{value:,.0f}" for value in sums[1:])
    return "\n".join([*lines, f"| all | | | {sums[0]:,.0f} | {hours} |"])


def bytes_a_frame(settings: Config) -> int:
    """Return the size of a frame in the latent cache."""
    height, width = settings.data.resolution
    return CHANNELS * (height // 8) * (width // 8) * (2 if settings.latents.dtype == "float16" else 4)


def main() -> None:
    """Print the table and the size of the latent cache."""
    config = sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml"
    size = bytes_a_frame(load_config(config))
    sys.stdout.write(f"{table(config)}\n\n")
    sys.stdout.write(
        f"Latent cache: {size:,} bytes per frame, {size * 24 * 3600 / 1e9:.2f} GB per hour at 24 frames/s\n"
    )


if __name__ == "__main__":
    main()
