"""Decode latents that `encode` wrote, back to videos named by clip id, at the size that the clips had.

The model must be the one that made them. A run that was cut off goes on with the videos that it lacks. Several jobs
share the work by --shard and --shards.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `decode`."""
    parser.add_argument("latents", type=Path, metavar="LATENTS", help="folder that `encode` wrote, or an index in it")
    parser.add_argument("--model", type=Path, required=True, help="model folder, or a file of published weights")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the videos to write")
    parser.add_argument("--lossless", action="store_true", help="write FFV1 (.mkv) instead of H.264 (.mp4)")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles that large frames are cut into")
    parser.add_argument("--tile-overlap", type=int, default=64, metavar="PIXELS", help="what tiles share, blended")
    parser.add_argument("--shard", type=int, default=0, help="which shard of the clips to decode, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Decode the clips of a shard."""
    from video_vae.latents import decoder

    decoder.run(args)
