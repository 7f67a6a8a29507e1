"""Fetch the weights that jobs would download by themselves, for machines without network, and list their sha256.

They are a spatial VAE by hub id and a flow net by address, and go where jobs look for them: the hub's cache ($HF_HOME)
and this package's own. Both must be on a disk that the machines share.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from video_vae.config import Config, load_config
from video_vae.files import atomic_path


def fetch_weights(config: Config) -> dict[str, str]:
    """Load what a config names by hub id or address, and list it: name -> sha256 of the tensors or of the file.

    Raises:
        UserError: if it cannot be had or has another hash than the config says.
    """
    from video_vae.metrics.flow import NetFlow, load_flow
    from video_vae.weights.hashing import weights_sha256
    from video_vae.weights.loading import load_spatial
    from video_vae.weights.start import pretrained_files

    found = {}
    if config.model.pretrained is not None:
        found[config.model.pretrained] = pretrained_files(config).sha256()
    elif config.spatial.pretrained is not None:
        found[config.spatial.pretrained] = weights_sha256(load_spatial(config.spatial).state_dict())
    for name, rival in config.compare.items():
        if rival.net is not None and rival.net.pretrained is not None:
            net = load_spatial(rival.net, rival.net.place, key=f"compare.{name}")
            found[rival.net.pretrained] = weights_sha256(net.state_dict())
    evaluation = config.evaluation
    if evaluation.flow_weights is not None:
        flow = load_flow(evaluation.flow, evaluation.flow_weights, evaluation.flow_sha256)
        found[evaluation.flow_weights] = flow.sha256 if isinstance(flow, NetFlow) else ""
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fetch-weights`."""
    parser.add_argument("config", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write: name -> sha256")


def run(args: argparse.Namespace) -> None:
    """Fetch the weights and list them."""
    found = fetch_weights(load_config(args.config))
    with atomic_path(args.output) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{args.output}: {', '.join(found) or 'nothing to fetch'}\n")
