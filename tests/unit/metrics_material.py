"""Clips and LPIPS weights that the tests of the metrics work on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import lpips
import numpy as np
import torch
from safetensors.torch import save_file

from video_vae.data.storage import write_lossless

BIKES = Path(__file__).parents[1] / "golden/metrics_bikes_64.npz"


def bikes() -> tuple[np.ndarray, np.ndarray]:
    """Return 6 real frames and a degraded copy, uint8 (6,64,64,3)."""
    with np.load(BIKES) as data:
        return data["real"].transpose(0, 2, 3, 1), data["generated"].transpose(0, 2, 3, 1)


def save_clip(path: Path, frames: np.ndarray) -> None:
    """Store frames losslessly, in a folder that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lossless(path, frames, 25)


def write_lpips(folder: Path, net: Literal["alex", "vgg"] = "alex") -> Path:
    """Write `net`.safetensors: the real heads over a random backbone."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        state = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith(("lins", "scaling"))}
    save_file(kept, folder / f"{net}.safetensors")
    return folder
