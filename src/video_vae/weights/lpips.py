"""LPIPS weights: from the pickles of the fetched package to safetensors, and from there to tensors, always checked."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.tensors import not_finite, save_tensors

log = logging.getLogger(__name__)

CHECKSUM = "weights_sha256"
"""Entry of a file's metadata: hash of its tensors."""
PICKLES = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}
# (slice, layer, output channels, input channels, kernel side) of each convolution of the backbones, in order
_CONVOLUTIONS = {
    "alex": ((1, 0, 64, 3, 11), (2, 3, 192, 64, 5), (3, 6, 384, 192, 3), (4, 8, 256, 384, 3), (5, 10, 256, 256, 3)),
    "vgg": (
        (1, 0, 64, 3, 3),
        (1, 2, 64, 64, 3),
        (2, 5, 128, 64, 3),
        (2, 7, 128, 128, 3),
        (3, 10, 256, 128, 3),
        (3, 12, 256, 256, 3),
        (3, 14, 256, 256, 3),
        (4, 17, 512, 256, 3),
        (4, 19, 512, 512, 3),
        (4, 21, 512, 512, 3),
        (5, 24, 512, 512, 3),
        (5, 26, 512, 512, 3),
        (5, 28, 512, 512, 3),
    ),
}
_HEADS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
# ImageNet statistics for inputs in [-1,1], as LPIPS v0.1 has them
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class _ArrayUnpickler(pickle.Unpickler):
    """Admit numpy's array constructors and nothing else: a pickle may otherwise run any code."""

    _admitted = frozenset(
        (module, name)
        for module, name in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        )
    )

    def find_class(self, module: str, name: str) -> Any:
        """Admit only the constructors that arrays of numbers need."""
        if (module, name) not in self._admitted:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_arrays(path: str | Path) -> dict[str, Any]:
    """Unpickle a (nested) dict of numpy arrays without running anything that the file names.

    Raises:
        UserError: if the file holds anything else or is damaged.
    """
    try:
        with Path(path).open("rb") as stream:
            values = _ArrayUnpickler(stream).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fetch it with `video-vae fetch CONFIG lpips`") from None
    except Exception as error:  # a damaged or hostile pickle may raise anything
        raise UserError(f"{path} is not a plain pickle of arrays: {error}; fetch it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, not a dict of arrays; fetch it again")
    return values


def lpips_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """List names and shapes of all tensors that the weights file of `net` (`alex` or `vgg`) holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, layer, out, inner, side in _CONVOLUTIONS[net]:
        shapes[f"net.slice{part}.{layer}.weight"] = (out, inner, side, side)
        shapes[f"net.slice{part}.{layer}.bias"] = (out,)
    return shapes | {f"lin{index}.model.1.weight": (1, width, 1, 1) for index, width in enumerate(_HEADS[net])}


def convert_lpips(folder: str | Path, output: str | Path) -> None:
    """Turn `folder`/{alexnet,vgg16}.ckpt into `output`/{alex,vgg}.safetensors with the lpips package's names.

    Raises:
        UserError: if a file is missing, changed since it was fetched, or holds other tensors than expected.
    """
    for net, (name, root) in PICKLES.items():
        source = Path(folder) / name
        arrays = load_arrays(source)
        digest = _check_fetched(source)
        tensors = _from_flax(arrays, root, net, source)
        with atomic_path(Path(output) / f"{net}.safetensors") as aside:
            texts = {"net": net, "source": name, "source_sha256": digest, CHECKSUM: weights_sha256(tensors)}
            save_tensors(tensors, aside, texts)
        log.info("%s: %d tensors of LPIPS %s", Path(output) / f"{net}.safetensors", len(tensors), net)


def _check_fetched(source: Path) -> str:
    digest = sha256_file(source)
    listing = source.parent / "files.json"
    if listing.exists() and json.loads(listing.read_text(encoding="utf-8")).get(source.name) != digest:
        raise UserError(f"{source} changed since it was fetched; delete {source.parent} and fetch it again")
    return digest


def _from_flax(arrays: Mapping[str, Any], root: str, net: str, source: Path) -> dict[str, Tensor]:
    shapes = lpips_shapes(net)
    named: dict[str, Any] = {}
    try:
        for index, (part, layer, *_) in enumerate(_CONVOLUTIONS[net]):
            convolution = arrays[root][f"Conv_{index}"]
            named[f"net.slice{part}.{layer}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)
            named[f"net.slice{part}.{layer}.bias"] = convolution["bias"]
        for index in range(len(_HEADS[net])):
            kernel = arrays[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]
            named[f"lin{index}.model.1.weight"] = kernel.transpose(3, 2, 0, 1)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{source} holds other arrays than LPIPS {net}: {error!r}") from None
    for name, shape in shapes.items():
        if named[name].shape != shape or named[name].dtype != np.float32:
            raise UserError(f"{source}: {name} is {named[name].dtype} {named[name].shape}, not float32 {shape}")
        if not np.isfinite(named[name]).all():
            raise UserError(f"{source}: {name} is not finite; fetch it again")
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in named.items()}


def load_lpips_weights(folder: str | Path, net: str) -> dict[str, Tensor]:
    """Load LPIPS v0.1 (backbone and heads) as a whole state dict of `lpips.LPIPS(net=net)`, for a strict load.

    `net` is `alex` or `vgg`; `folder` holds what `convert_lpips` wrote.

    Raises:
        UserError: if the file is missing, damaged, or a tensor is missing, unexpected or misshapen.
    """
    path = Path(folder) / f"{net}.safetensors"
    if not path.exists():
        raise UserError(
            f"{path}: no LPIPS weights; run `video-vae fetch CONFIG lpips --output {folder}`, "
            f"then `video-vae convert-lpips {folder}`"
        )
    try:
        with safe_open(path, framework="pt") as stored:
            sealed = (stored.metadata() or {}).get(CHECKSUM)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}; delete it and convert it again") from None
    shapes = lpips_shapes(net)
    wrong = sorted(name for name in shapes.keys() | tensors.keys() if shapes.get(name) != _shape(tensors.get(name)))
    if wrong:
        raise UserError(f"{path}: missing, unexpected or misshapen: {', '.join(wrong)}; convert it again")
    wrong = not_finite(tensors)
    if wrong:
        raise UserError(f"{path}: not finite: {', '.join(wrong)}; convert it again")
    if sealed is not None and weights_sha256(tensors) != sealed:
        raise UserError(f"{path} is damaged: its weights are not what was written; delete it and convert it again")
    # the lpips package registers its heads twice
    tensors |= {f"lins.{index}.model.1.weight": tensors[f"lin{index}.model.1.weight"] for index in range(5)}
    for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
        tensors[f"scaling_layer.{name}"] = torch.tensor(values).view(1, 3, 1, 1)
    return tensors


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
