"""Decode every training clip once and keep what training sees of it, at its size, so that it reads fast.

Writes one shard. A run that was cut off goes on with the clips that it had not finished, and clips that an earlier
shard holds by the same content and settings are taken from there. Scores never look at prepared clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `prepare-clips`."""
    parser.add_argument("config", help="YAML file, or the settings as JSON text; `data.prepare` says how")
    parser.add_argument("--data-path", type=Path, required=True, metavar="CSV", help="table of training clips")
    parser.add_argument("--shard", type=int, default=0, help="which shard to write, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--output", type=Path, required=True, help="the .tar file to write")
    parser.add_argument(
        "--reuse", type=Path, metavar="DIR", help="folder of folders with shards, to take clips from [--output alone]"
    )
    size = "one of the sizes of data.buckets [data.resolution]"
    parser.add_argument("--resolution", type=int, nargs=2, metavar=("H", "W"), help=size)
    parser.add_argument("--workers", type=int, help="clips prepared at once [cores]")


def run(args: argparse.Namespace) -> None:
    """Prepare the clips of one shard and write them with a record of the run beside them."""
    from video_vae.data import preparing

    preparing.run(args)
