"""Make the tables of clips: probe every file, say why some cannot be used, hold some out."""

from __future__ import annotations

import argparse
from pathlib import Path

from video_vae.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `manifest`."""
    parser.add_argument(
        "config", help="settings: YAML or JSON file, or JSON text; the folder of clips with --benchmark"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("results/data"), help="folder of the tables to write")
    parser.add_argument("--packages-dir", type=Path, default=Path("resources"), help="folder of the fetched packages")
    parser.add_argument("--workers", type=int, help="files probed at once [cores]")
    scored = "settings that held-out clips must be long and large enough for, as JSON text"
    parser.add_argument("--scored-as", nargs="+", default=[], metavar="JSON", help=scored)
    trained = "settings whose sizes training clips must be large enough for, as JSON text"
    parser.add_argument("--trained-at", nargs="+", default=[], metavar="JSON", help=trained)
    sets = "only check that a folder is a public set of clips: davis, davis-2017, mcl-jcv or tokenbench"
    parser.add_argument("--benchmark", metavar="NAME", help=sets)
    listed = "with --benchmark: write a list of the clips, all held out, for data.sources"
    parser.add_argument("--output", type=Path, metavar="CSV", help=listed)


def run(args: argparse.Namespace) -> None:
    """Write manifest.csv, rejected.csv, train.csv, test.csv and the record of the run, or check a benchmark."""
    from video_vae.data import benchmark, build_manifest

    if args.benchmark is not None:
        benchmark.run(args)
        return
    if args.output is not None:
        raise UserError("--output is for the list of a --benchmark; tables of a config go to --output-dir")
    build_manifest.run(args)
