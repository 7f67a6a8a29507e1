"""Count what the runs of a config compute, and what that means in GPU hours and bytes.

Nothing is run: any machine will do.

    python -m benchmarks.cost [CONFIG]

Without a config the paper's run is counted. Each run is counted whole, also where it takes stages from another one.

A multiplication with its addition counts as two operations. Convolutions, matrix products and attention are counted,
forward and backward, by torch's own counter; the rest is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache

import torch
from diffusers import AutoencoderKL

from video_vae.config import Config, StageName, load_config
from video_vae.config.runs import Runs, resolve
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
def _runs(config: str) -> Runs:
    return resolve(load_config(config))


@cache
def operations(config: str, run: str, stage: StageName, size: tuple[int, int], frames: int) -> float:
    """Count the operations of one clip's forward and backward pass at a size in pixels, in 1e12."""
    settings, (height, width) = _runs(config)[run], size
    what = settings.stages.of(stage)
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


def of_a_clip(config: str, run: str, stage: StageName) -> float:
    """Average the operations of a clip over images, lengths and sizes, in 1e12."""
    settings = _runs(config)[run]
    sizes = settings.stages.of(stage).sizes(settings.data)
    counts = [bucket.share * _at_a_size(config, run, stage, bucket.resolution) for bucket in sizes]
    return sum(counts) / sum(bucket.share for bucket in sizes)


def _at_a_size(config: str, run: str, stage: StageName, size: tuple[int, int]) -> float:
    what = _runs(config)[run].stages.of(stage)
    shortest, longest = what.frames
    places = sorted({shortest + (longest - shortest) * index // (LENGTHS - 1) for index in range(LENGTHS)})
    counts = [operations(config, run, stage, size, frames) for frames in places]
    if len(counts) == 1:
        video = counts[0]
    else:
        parts = zip(places, places[1:], counts, counts[1:], strict=False)
        video = sum((b - a) * (x + y) / 2 for a, b, x, y in parts) / (longest - shortest)
    return what.image_share * operations(config, run, stage, size, 1) + (1 - what.image_share) * video


def table(config: str) -> str:
    """Write the cost of each stage as a table, of each run where there are several."""
    names = " | ".join(f"{gpu}, GPU hours" for gpu in GPUS)
    lines = [
        f"| stage | clips | TFLOP per clip | EFLOP | {names} |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * len(GPUS),
    ]
    for run in _runs(config):
        lines += _rows(config, run, f"{run}, " if len(_runs(config)) > 1 else "")
    return "\n".join(lines)


def _rows(config: str, run: str, label: str) -> Iterator[str]:
    stages = _runs(config)[run].stages
    sums = [0.0] * (1 + len(GPUS))
    for stage in stages.trained:
        what = stages.of(stage)
        clips = (what.steps or 0) * what.global_batch
        each = of_a_clip(config, run, stage)
        total = [clips * each / 1e6, *(clips * each / (peak * SHARE * 3600) for peak in GPUS.values())]
        sums = [a + b for a, b in zip(sums, total, strict=True)]
        hours = " | ".join(f"{value:,.0f}" for value in total[1:])
        yield f"| {label}{stage[-1]} | {clips:,} | {each:.1f} | {total[0]:,.0f} | {hours} |"
    hours = " | ".join(f"{value:,.0f}" for value in sums[1:])
    yield f"| {label}all | | | {sums[0]:,.0f} | {hours} |"


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
