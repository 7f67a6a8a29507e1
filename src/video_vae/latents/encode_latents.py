"""Encode every frame of the clips once with the frozen spatial VAE, for stages that train on its latents.

Writes one shard of the cache. A run that was cut off goes on with the clips that it had not finished, and clips that an
earlier cache holds by the same content and settings are taken from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `encode-latents`."""
    parser.add_argument("config", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument(
        "--data-path", action="append", type=Path, required=True, help="table of clips; may be repeated"
    )
    parser.add_argument("--spatial", type=Path, help="folder of the spatial VAE [the one that the config names]")
    parser.add_argument("--shard", type=int, default=0, help="which shard to write, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument(
        "--reuse", type=Path, metavar="DIR", help="folder of folders with caches, to take clips from [--output alone]"
    )
    size = "one of the sizes of data.buckets [data.resolution]"
    parser.add_argument("--resolution", type=int, nargs=2, metavar=("H", "W"), help=size)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Encode the clips of one shard and write them with a record of the run beside them."""
    from video_vae.latents import cache_writer

    cache_writer.run(args)
