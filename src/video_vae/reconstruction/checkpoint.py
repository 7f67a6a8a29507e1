"""Load what `--ckpt-path` names: a folder of this package, or a published checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from video_vae.config import Config
from video_vae.errors import UserError
from video_vae.models import VideoAutoencoderKL
from video_vae.weights.loading import load_video_vae
from video_vae.weights.open_sora import import_checkpoint

CONFIG = "config.json"


def load_checkpoint(path: Path, config: Config, spatial: Path | None = None) -> VideoAutoencoderKL:
    """Load a video VAE, in fp32 and for inference.

    A folder that this package wrote (or the folder around its `model`) says itself what it holds, and so does what it
    exported. Anything else gives tensors by their published names; the architecture is then the config's `model`
    section, and the spatial VAE's is that of the folder `spatial`, or of a local folder that the config names, or the
    SDXL VAE's.

    Raises:
        UserError: if nothing can be loaded, or a tensor is missing, unexpected or misshapen.
    """
    check_there(path)
    folder = path / "model" if (path / "model" / CONFIG).exists() else path
    model: Any
    if _is_ours(folder):
        model = load_video_vae(folder)
    else:
        model = import_checkpoint(path, config, spatial or _named_folder(config), own_first=True)
    inference: VideoAutoencoderKL = model.float().eval().requires_grad_(False)
    return inference


def check_there(path: Path) -> None:
    """Refuse a checkpoint that does not exist, before anything is read for it.

    Raises:
        UserError: if there is nothing.
    """
    if not path.exists():
        raise UserError(f"model {path}: no such file or folder; give a stage's model folder or a weights file")


def _is_ours(folder: Path) -> bool:
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("_class_name") == VideoAutoencoderKL.__name__


def _named_folder(config: Config) -> Path | None:
    named = Path(config.spatial.pretrained or "")
    return named / (config.spatial.subfolder or "") if config.spatial.pretrained and named.is_dir() else None
