"""Measure mean and standard deviation of each temporal latent channel: the model's `shift` and `scale`.

One pass over the clips in float64, each clip in consecutive windows of the model's `chunk_frames` (33 frames where it
has none). Latents are the posteriors' modes, as in evaluation. With --latents the cached moments of the spatial VAE
are used and no video is decoded. Under torchrun the ranks split the clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from video_vae.cli import main_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `latent-statistics`."""
    parser.add_argument("config", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("--ckpt-path", type=Path, required=True, help="model folder, or a weights file")
    parser.add_argument("--data-path", type=Path, required=True, help="table of clips")
    parser.add_argument("--latents", type=Path, nargs="+", help="files of the latent cache")
    parser.add_argument("--spatial", type=Path, help="folder of the spatial VAE, for a weights file")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Measure the statistics and write them as JSON, with a record of the run beside it."""
    from video_vae.latents import statistics

    statistics.run(args)


if __name__ == "__main__":
    raise SystemExit(main_for("latent-statistics"))
