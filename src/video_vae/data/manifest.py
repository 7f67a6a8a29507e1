"""Make the tables of clips: probe every file, say why some cannot be used, hold some out."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `manifest`."""
    parser.add_argument("config", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("--output-dir", type=Path, default=Path("results/data"), help="folder of the tables to write")
    parser.add_argument("--packages-dir", type=Path, default=Path("resources"), help="folder of the fetched packages")
    parser.add_argument("--workers", type=int, help="files probed at once [cores]")


def run(args: argparse.Namespace) -> None:
    """Write manifest.csv, rejected.csv, train.csv, test.csv and the record of the run."""
    from video_vae.data import build_manifest

    build_manifest.run(args)
