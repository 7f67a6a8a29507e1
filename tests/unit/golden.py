"""Golden data: weights that are a function of their names, and the files that hold what they must give."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "golden"


def arrays(name: str) -> dict[str, Tensor]:
    """Read the arrays of a golden file."""
    with np.load(FOLDER / f"{name}.npz") as data:
        return {key: torch.from_numpy(data[key]) for key in data.files}


def shapes(name: str) -> dict[str, list[int]]:
    """Read a golden list of state-dict names and shapes."""
    values: dict[str, list[int]] = json.loads((FOLDER / f"{name}.json").read_text())
    return values


def made(key: str, shape: Any, salt: str = "") -> Tensor:
    """Make the tensor that belongs to a state-dict key."""
    rng = np.random.default_rng(zlib.crc32((salt + key).encode()))
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    if len(shape) > 1:
        noise = noise / np.sqrt(np.prod(shape[1:]))
    else:
        noise = 1 + 0.1 * noise if key.endswith("weight") else 0.1 * noise
    return torch.from_numpy(np.asarray(noise, dtype=np.float32))


def fill(net: nn.Module, salt: str = "", keep: tuple[str, ...] = ()) -> None:
    """Give a net its golden weights, but for the names to keep."""
    state = net.state_dict()
    net.load_state_dict({k: v if k in keep else made(k, v.shape, salt) for k, v in state.items()})
