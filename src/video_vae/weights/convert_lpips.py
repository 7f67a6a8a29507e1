"""Turn the fetched LPIPS weights, pickles, into safetensors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.provenance import RECORD, Part, run_record, write_json_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `convert-lpips`."""
    parser.add_argument("folder", type=Path, help="folder with alexnet.ckpt and vgg16.ckpt, as fetched")
    parser.add_argument("--output-dir", type=Path, help="where alex.safetensors and vgg.safetensors go [the folder]")


def run(args: argparse.Namespace) -> None:
    """Convert the fetched LPIPS weights."""
    from video_vae.weights.lpips import PICKLES, convert_lpips

    output = args.output_dir or args.folder
    check_places({output / f"convert.{RECORD}": RECORD_TRAITS})
    convert_lpips(args.folder, output)
    read = Part(args.folder, [name for name, _ in PICKLES.values()])
    written = Part(output, [f"{net}.safetensors" for net in PICKLES])
    record = run_record("convert-lpips", None, {"package": read}, outputs={"weights": written})
    write_json_atomic(output / f"convert.{RECORD}", record)
    sys.stdout.write(f"{output}: alex.safetensors, vgg.safetensors\n")
