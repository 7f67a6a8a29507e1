"""Make the nets that a config describes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import nn

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.models.init import start_as_interpolation
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.video import VideoAutoencoderKL
from video_vae.weights.tensors import NAMED, not_finite

log = logging.getLogger(__name__)

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""A mirror on this machine needs no https."""
CHECKSUM = "_weights_sha256"
"""Entry of config.json: hash of the weights beside it. The library passes over names that begin so."""


_STRICTLY: dict[str, Any] = {"use_safetensors": True, "low_cpu_mem_usage": False, "output_loading_info": True}


def save_model(net: ModelMixin, folder: Path) -> None:
    """Write a net in diffusers format, whole or not at all, with the hash of its weights in its config.json."""
    with atomic_path(folder) as aside:
        net.save_pretrained(aside)
        values = json.loads((aside / CONFIG).read_text(encoding="utf-8"))
        values[CHECKSUM] = sha256_file(aside / WEIGHTS)
        (aside / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def verify_checksum(folder: Path) -> None:
    """Compare the weights of a folder with the hash that its config.json has, if it has one.

    Raises:
        UserError: if they differ: a model that loads may still be damaged.
    """
    weights = folder / WEIGHTS
    try:
        sealed = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get(CHECKSUM)
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
        verify_checksum(Path(source) / (subfolder or ""))
    if not local:
        _check_hub(source)
    try:
        net, report = AutoencoderKL.from_pretrained(source, subfolder=subfolder, local_files_only=local, **_STRICTLY)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"spatial VAE {source}: cannot be loaded ({reason}); set spatial.pretrained to a folder in diffusers "
            "format, a hub id that this machine reaches, or null to train one"
        ) from error
    if not local:
        _check_fetched(source, subfolder, spatial.sha256)
    _check_whole(net, report, f"spatial VAE {source}")
    loaded: AutoencoderKL = net
    return loaded


def _check_hub(source: str) -> None:
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        raise UserError(f"spatial VAE {source}: HF_ENDPOINT is {constants.ENDPOINT}; fetch from an https address only")


def _check_fetched(source: str, subfolder: str | None, expected: str | None) -> None:
    """Compare weights that came from a hub with the hash in the config; say the hash where it has none.

    Raises:
        UserError: if they differ.
    """
    from huggingface_hub import try_to_load_from_cache

    file = f"{subfolder}/{WEIGHTS}" if subfolder else WEIGHTS
    path = try_to_load_from_cache(source, file)
    if not isinstance(path, str):
        raise UserError(f"spatial VAE {source}: {file} is not in the hub's cache; download it and name its folder")
    if expected is not None:
        _check_hash(Path(path), expected)
    else:
        log.warning("%s: set spatial.sha256: %s, so that no other weights are ever taken", source, sha256_file(path))


def _check_whole(net: ModelMixin, report: Mapping[str, Any], name: str) -> None:
    """Refuse weights that are incomplete (the library would make up the rest), that have more, or are not finite.

    Raises:
        UserError: which names the tensors.
    """
    problems = {
        "missing": report["missing_keys"],
        "unexpected": report["unexpected_keys"],
        "not finite": not_finite(net.state_dict()),
    }
    parts = [f"{len(keys)} {kind} ({', '.join(sorted(keys)[:NAMED])})" for kind, keys in problems.items() if keys]
    if parts:
        raise UserError(f"{name}: {'; '.join(parts)}; get the whole weights of this architecture")


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"spatial VAE: {path} is missing; spatial.sha256 is checked against it")
    found = sha256_file(path)
    if found != expected:
        raise UserError(f"spatial VAE: {path} has sha256 {found}, but spatial.sha256 says {expected}")


def check_fits(make: Callable[[], nn.Module], key: str) -> None:
    """See that a net's weights fit into this machine's memory before any of it is taken.

    Raises:
        UserError: if they do not; names the key of the config.
    """
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make().parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * count > memory:
        raise UserError(
            f"{key}: {count:,} parameters take {4 * count / 1e9:,.0f} GB, this machine has {memory / 1e9:,.0f}; "
            "take fewer channels or layers"
        )


def build_temporal(temporal: settings.Temporal, seed: int) -> TemporalAutoencoderKL:
    """Make a fresh temporal VAE with weights that are a function of the seed.

    Raises:
        UserError: if it does not fit into memory, or cannot start as its config says.
    """
    check_fits(lambda: TemporalAutoencoderKL(**temporal.model_dump(exclude={"init"})), "model.temporal")
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
    verify_checksum(folder)
    try:
        net, report = VideoAutoencoderKL.from_pretrained(str(folder), local_files_only=True, **_STRICTLY)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {folder}: cannot be loaded ({reason}); give a stage's model folder") from error
    _check_whole(net, report, f"model {folder}")
    loaded: VideoAutoencoderKL = net
    return loaded
