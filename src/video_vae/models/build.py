"""Make the nets that a config describes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.models.init import start_as_interpolation
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.video import VideoAutoencoderKL

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_spatial(spatial: settings.Spatial, folder: Path | None = None) -> AutoencoderKL:
    """Load the spatial VAE from a folder, or from what the config names (a local folder or a hub id).

    Raises:
        UserError: if it cannot be loaded, or its weights have another hash than the config says.
    """
    source = str(folder) if folder is not None else spatial.pretrained
    if source is None:
        raise UserError("spatial.pretrained is null and no trained spatial VAE was given; run train-spatial first")
    local = Path(source).is_dir()
    subfolder = None if folder is not None else spatial.subfolder
    if local and spatial.sha256 is not None:
        _check_hash(Path(source) / (subfolder or "") / WEIGHTS, spatial.sha256)
    try:
        return AutoencoderKL.from_pretrained(
            source, subfolder=subfolder, local_files_only=local, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"spatial VAE {source}: cannot be loaded ({reason}); set spatial.pretrained to a folder in diffusers "
            "format, a hub id that this machine reaches, or null to train one"
        ) from error


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"spatial VAE: {path} is missing; spatial.sha256 is checked against it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise UserError(f"spatial VAE: {path} has sha256 {found}, but spatial.sha256 says {expected}")


def build_temporal(temporal: settings.Temporal, seed: int) -> TemporalAutoencoderKL:
    """Make a fresh temporal VAE with weights that are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TemporalAutoencoderKL(**temporal.model_dump(exclude={"init"}))
    if temporal.init == "interpolate":
        try:
            start_as_interpolation(net)
        except ValueError as error:
            raise UserError(f"model.temporal.{error}") from None
    return net


def build_video_vae(config: settings.Config, spatial_folder: Path | None = None) -> VideoAutoencoderKL:
    """Make the video VAE that a config describes: its spatial VAE and a fresh temporal VAE."""
    model = config.model
    return VideoAutoencoderKL(
        load_spatial(config.spatial, spatial_folder),
        build_temporal(model.temporal, config.seed),
        scaling_factor=model.scaling_factor,
        shift=model.shift,
        scale=model.scale,
        chunk_frames=model.chunk_frames,
    )


def load_video_vae(folder: Path) -> VideoAutoencoderKL:
    """Load a trained video VAE from a folder that ``save_pretrained`` wrote.

    Raises:
        UserError: if the folder holds no such model, or a broken one.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model {folder}: no config.json there; give a stage's model folder")
    try:
        return VideoAutoencoderKL.from_pretrained(str(folder), local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {folder}: cannot be loaded ({reason}); give a stage's model folder") from error
