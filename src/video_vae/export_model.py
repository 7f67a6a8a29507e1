"""Subcommand ``export``: a model folder becomes one file with the published names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from video_vae.convert import export_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("model", type=Path, help="model folder of a stage")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")


def run(args: argparse.Namespace) -> None:
    """Write a model folder as one file with the published names."""
    export_checkpoint(args.model, args.output)
    sys.stdout.write(f"{args.output}\n")
