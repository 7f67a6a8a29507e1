"""Read weights of any origin without running what they hold, and compare them with what a net expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from video_vae.errors import UserError

NAMED = 3
"""Tensors of a kind of problem that are named; the rest is counted."""


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """Read a .safetensors file, or what torch saved: tensors by name (a `state_dict` inside is taken out).

    Args:
        path: the file.
        what: what it is called in errors, such as `checkpoint`.

    Raises:
        UserError: if it is missing or broken, or holds anything but tensors; code in it is never run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{what} {path}: no such file; correct the path") from None
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        said = " ".join(str(error).split())[:200] or "it ends too early"
        raise UserError(f"{what} {path}: cannot be read as weights ({said}); get the file anew") from None
    except Exception as error:
        # torch's restricted unpickler raises several kinds of its own for anything but tensors.
        raise UserError(
            f"{what} {path}: refused, it is broken or holds more than tensors, which may be code "
            f"({type(error).__name__}); get it as safetensors"
        ) from None
    values = values.get("state_dict", values) if isinstance(values, Mapping) else values
    if not isinstance(values, Mapping) or not all(_is_plain(name, value) for name, value in values.items()):
        raise UserError(f"{what} {path}: not a mapping of names to tensors of numbers; get another file")
    return dict(values)


def _is_plain(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_complex()
        and not value.is_quantized
    )


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say what is missing, unexpected, misshapen, of another kind or not finite; empty where all fits."""
    shared = sorted(found.keys() & expected.keys())
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "misshapen": [
            f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in shared
            if found[key].shape != expected[key].shape
        ],
        "of another kind": [
            f"{key} {found[key].dtype}"
            for key in shared
            if found[key].is_floating_point() != expected[key].is_floating_point()
        ],
        "not finite": not_finite({key: found[key] for key in shared}),
    }
    parts = [
        f"{len(items)} {kind} ({', '.join(items[:NAMED])}{', ...' if len(items) > NAMED else ''})"
        for kind, items in problems.items()
        if items
    ]
    return "; ".join(parts)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors that hold NaN or infinite numbers."""
    return [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
