"""Make the nets that a config describes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ModelMixin

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.models.init import start_as_interpolation
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.video import VideoAutoencoderKL

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SEAL = "_weights_sha256"
"""Entry of config.json: hash of the weights beside it. The library passes over names that begin so."""


def save_model(net: ModelMixin, folder: Path) -> None:
    """Write a net in diffusers format, whole or not at all, with the hash of its weights in its config.json."""
    with atomic_path(folder) as aside:
        net.save_pretrained(aside)
        values = json.loads((aside / CONFIG).read_text(encoding="utf-8"))
        values[SEAL] = sha256_file(aside / WEIGHTS)
        (aside / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_seal(folder: Path) -> None:
    """Compare the weights of a folder with the hash that its config.json has, if it has one.

    Raises:
        UserError: if they differ: a model that loads may still be damaged.
    """
    weights = folder / WEIGHTS
    try:
        sealed = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get(SEAL)
    except (OSError, ValueError, AttributeError):
        return  # what the library says of it is said elsewhere
    if sealed is not None and (not weights.is_file() or sha256_file(weights) != sealed):
        raise UserError(f"{weights} is damaged: its hash is not that in {CONFIG}; delete {folder}, then make it again")


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
    if local:
        check_seal(Path(source) / (subfolder or ""))
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
    found = sha256_file(path)
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
    if not (folder / CONFIG).is_file():
        raise UserError(f"model {folder}: no config.json there; give a stage's model folder")
    check_seal(folder)
    try:
        return VideoAutoencoderKL.from_pretrained(str(folder), local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {folder}: cannot be loaded ({reason}); give a stage's model folder") from error
