"""Encode clips to the latents that diffusion models train on: (4, T', H / 8, W / 8), normalised, the posterior's mode.

CLIPS are folders, files or tables, as for data.sources. OUTPUT gets safetensors files with one tensor per clip, and
index.csv: clip, file, source, size, frame rate, number of frames, caption, sha256 of the model. Frames are taken at
their own size, edges repeated to multiples of 8, unless --resolution or --config says otherwise. A run that was cut off
goes on with the files that it lacks. Several jobs share the work by --shard and --shards; the last one joins their
lists. Images are left out unless --images is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

DTYPES = ("float32", "float16", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `encode`."""
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIPS", help="folders, files or tables of clips")
    parser.add_argument("--model", type=Path, required=True, help="model folder, or a file of published weights")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--config", help="settings whose data section says how frames are seen [as they are]")
    parser.add_argument("--resolution", type=int, nargs=2, metavar=("H", "W"), help="size to resize and crop to")
    parser.add_argument("--dtype", choices=DTYPES, help="number format [latents.dtype of --config, or float32]")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles that large frames are cut into")
    parser.add_argument("--tile-overlap", type=int, default=64, metavar="PIXELS", help="what tiles share, blended")
    parser.add_argument("--images", action="store_true", help="encode images too, as clips of one frame")
    parser.add_argument("--file-size", type=float, default=64.0, metavar="MIB", help="size of the files at most")
    parser.add_argument("--shard", type=int, default=0, help="which shard of the clips to encode, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--index", type=Path, help="list of the shard's clips; they are joined by the caller then")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Encode the clips of a shard, and list them."""
    from video_vae.latents import encoder

    encoder.run(args)
