"""Train a small spatial VAE (diffusers AutoencoderKL, 8x, 4 channels) on single frames and images.

It stands in for the SDXL VAE of PixArt-Sigma where no hub is reached. Each crop is a function of (seed, step,
position in the batch) alone, so a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``train-spatial``."""
    parser.add_argument("config", metavar="CONFIG", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("--data-path", type=Path, required=True, metavar="CSV", help="table of training clips")
    parser.add_argument("--valid-path", type=Path, metavar="CSV", help="table of held-out clips, for the PSNR only")
    parser.add_argument("--lpips", type=Path, metavar="DIR", help="weights of LPIPS [as evaluate]")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write, diffusers format")
    parser.add_argument("--state", type=Path, metavar="DIR", help="resume states go here [state beside the output]")


def run(args: argparse.Namespace) -> None:
    """Train the spatial VAE that a config describes and save it with its run record."""
    from video_vae.training import spatial

    spatial.run(args)
