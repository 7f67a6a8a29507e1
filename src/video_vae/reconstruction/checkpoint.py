"""Load what `--ckpt-path` names: a folder in diffusers format, or one file with the published names."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from video_vae.config import Config
from video_vae.errors import UserError
from video_vae.models import VideoAutoencoderKL
from video_vae.models.build import build_temporal, load_video_vae

log = logging.getLogger(__name__)

# The SDXL VAE's, which the published weights use: a file names its tensors but not its architecture.
_SDXL: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "latent_channels": 4,
}


def load_checkpoint(path: Path, config: Config, spatial: Path | None = None) -> VideoAutoencoderKL:
    """Load a video VAE, in fp32 and for inference.

    A folder says itself what it holds. A file (safetensors, or a .pt state dict) gives tensors by their published
    names; the architecture is then the config's `model` section, and the spatial VAE's that of the folder `spatial`
    or of the config's `spatial` section.

    Raises:
        UserError: if nothing can be loaded, or a tensor is missing, unexpected or misshapen.
    """
    if path.is_dir():
        nested = path / "model"
        model = load_video_vae(path if (path / "config.json").exists() or not nested.is_dir() else nested)
    elif path.is_file():
        model = _from_file(path, config, spatial)
    else:
        raise UserError(f"--ckpt-path {path}: no such file or folder; give a stage's model folder or a weights file")
    inference: Any = model.float().eval().requires_grad_(False)
    return inference


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or a .pt file; one level of `state_dict` or `model` is unwrapped.

    Raises:
        UserError: if the file is damaged or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as a state dict ({reason}); give .safetensors or .pt") from None
    for key in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        raise UserError(f"{path} does not hold a plain dict of tensors; give a state dict")
    return dict(values)


def _from_file(path: Path, config: Config, spatial: Path | None) -> VideoAutoencoderKL:
    settings = config.model
    model = VideoAutoencoderKL(
        _spatial_architecture(config, spatial),
        build_temporal(settings.temporal, config.seed),
        scaling_factor=settings.scaling_factor,
        shift=settings.shift,
        scale=settings.scale,
        chunk_frames=settings.chunk_frames,
    )
    state = read_state_dict(path)
    _check_names(path, state, model.state_dict())
    model.load_state_dict(state)
    return model


def _spatial_architecture(config: Config, folder: Path | None) -> AutoencoderKL:
    named = config.spatial.pretrained
    if folder is None and named is None:
        from video_vae.training.spatial import build

        return build(config.spatial.training, config.seed)
    if folder is None and named is not None and Path(named).is_dir():
        folder = Path(named) / (config.spatial.subfolder or "")
    if folder is None:
        return AutoencoderKL(**_SDXL)
    try:
        architecture: AutoencoderKL = AutoencoderKL.from_config(AutoencoderKL.load_config(folder))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--spatial {folder}: {' '.join(str(error).split())[:200]}; give its diffusers folder"
        ) from None
    return architecture


def _check_names(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "misshapen": sorted(n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape),
    }
    said = [f"{len(names)} {kind} (such as {names[0]})" for kind, names in problems.items() if names]
    if said:
        raise UserError(f"{path} does not fit the config's model section: {', '.join(said)}")
