"""Subcommand ``import``: a published checkpoint becomes a model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from video_vae.config import load_config
from video_vae.weights.loading import save_model
from video_vae.weights.open_sora import import_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import``."""
    parser.add_argument("checkpoint", type=Path, help="published checkpoint: .safetensors or .pt file, or its folder")
    parser.add_argument("--config", default="{}", help="config whose model section describes it [the published net]")
    parser.add_argument(
        "--spatial", type=Path, metavar="DIR", help="folder with the spatial VAE's config.json [SDXL's]"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder to write")


def run(args: argparse.Namespace) -> None:
    """Write the model folder of a published checkpoint."""
    net = import_checkpoint(args.checkpoint, load_config(args.config), args.spatial)
    save_model(net, args.output)
    count = sum(tensor.numel() for tensor in net.state_dict().values())
    sys.stdout.write(f"{args.output}: {len(net.state_dict())} tensors, {count:,} numbers\n")
