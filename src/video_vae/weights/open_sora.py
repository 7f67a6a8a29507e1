"""Turn a published checkpoint into this project's model folder, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.weights.loading import load_video_vae
from video_vae.weights.tensors import misfits, read_tensors

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
SDXL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
    "scaling_factor": 0.13025,
}
"""Architecture of the spatial VAE of the published checkpoint (its own scaling factor is not used)."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint: a .safetensors or .pt file, or a folder that holds one.

    Raises:
        UserError: if there is none or more than one, or the file is broken or holds more than tensors.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(files) != 1:
            raise UserError(f"checkpoint {path}: {len(files)} weight files in the folder; give the file to take")
        path = files[0]
    return read_tensors(path, "checkpoint")


def check_state_dict(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Compare names and shapes of a checkpoint with those of a net, and refuse non-finite weights.

    Raises:
        UserError: which says what is missing, unexpected, misshapen or not finite.
    """
    problems = misfits(found, expected)
    if problems:
        raise UserError(f"checkpoint {name}: {problems}; set model.temporal in the config to its architecture")


def empty_video_vae(model: settings.Model, spatial: Path | None) -> VideoAutoencoderKL:
    """Make the net that a config describes without weights of its own, around the SDXL VAE or that of a folder."""
    architecture = SDXL if spatial is None else AutoencoderKL.load_config(str(spatial))
    with torch.device("meta"):
        return VideoAutoencoderKL(
            AutoencoderKL.from_config(architecture),
            TemporalAutoencoderKL(**model.temporal.model_dump(exclude={"init"})),
            scaling_factor=model.scaling_factor,
            shift=model.shift,
            scale=model.scale,
            chunk_frames=model.chunk_frames,
        )


def import_checkpoint(checkpoint: Path, config: settings.Config, spatial: Path | None = None) -> VideoAutoencoderKL:
    """Load a published checkpoint into the net that a config describes; every name and shape must fit.

    Raises:
        UserError: if it cannot be read or does not fit.
    """
    found = read_state_dict(checkpoint)
    net = empty_video_vae(config.model, spatial)
    check_state_dict(found, net.state_dict(), str(checkpoint))
    net.load_state_dict({key: value.float() for key, value in found.items()}, strict=True, assign=True)
    return net


def export_checkpoint(folder: Path, output: Path) -> None:
    """Write the weights of a model folder under the published names, as one safetensors file."""
    state = load_video_vae(folder).state_dict()
    with atomic_path(output) as aside:
        save_file({key: value.contiguous() for key, value in state.items()}, aside, metadata={"format": "pt"})
