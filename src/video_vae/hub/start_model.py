"""Make the weights that the first stage starts with: a pretrained video VAE, or a fresh net around the spatial VAE.

OUTPUT/model is the video VAE, OUTPUT/spatial its spatial VAE alone, and run.json names the weights by their sha256.
Where a pretrained one has no config.json, the section `model` of the config describes it, and the spatial VAE that the
config names tells what its spatial VAE is like.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``start-model``."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or JSON text")
    parser.add_argument("--spatial", type=Path, metavar="DIR", help="spatial VAE [the one that the config names]")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write: model, spatial")


def run(args: argparse.Namespace) -> None:
    """Write the model, its spatial VAE and the record."""
    from video_vae.weights.start import write_start

    write_start(args.config, args.spatial, args.output)
