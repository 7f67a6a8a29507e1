"""Turn a published checkpoint into a model folder: one file, or a folder that holds one.

What this project exported, and a folder with its config.json, say themselves what net they are of. Anything else is
taken for the published Open-Sora VAE v1.2, or is described by --config and --spatial. The weights may lie in a part of
the file, such as `ema`: where several are in it, they are named, and --key takes one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from video_vae.config import load_config
from video_vae.errors import UserError
from video_vae.weights.files import SUFFIXES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import``."""
    parser.add_argument(
        "checkpoint", type=Path, help="published checkpoint: .safetensors, .pt, .pth, .bin or .ckpt file, or its folder"
    )
    parser.add_argument(
        "--config", help="config whose model section describes it [what it says itself, else the published net]"
    )
    parser.add_argument(
        "--spatial", type=Path, metavar="DIR", help="folder with the spatial VAE's config.json [as --config, or SDXL's]"
    )
    parser.add_argument("--key", metavar="NAME", help="the weights to take where several are in it, such as ema")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder to write")


def run(args: argparse.Namespace) -> None:
    """Write the model folder of a published checkpoint."""
    from video_vae.weights.loading import save_model
    from video_vae.weights.open_sora import import_checkpoint

    if args.output.suffix.lower() in SUFFIXES:
        raise UserError(f"--output {args.output}: a model folder is written, not a file; name it without that ending")
    config = None if args.config is None else load_config(args.config)
    net = import_checkpoint(args.checkpoint, config, args.spatial, args.key)
    save_model(net, args.output)
    count = sum(tensor.numel() for tensor in net.state_dict().values())
    sys.stdout.write(f"{args.output}: {len(net.state_dict())} tensors, {count:,} numbers\n")
