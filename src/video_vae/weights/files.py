"""Name the files of a model folder that hold its weights, however they were saved. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.errors import UserError
from video_vae.files import sha256_file

CONFIG = "config.json"
STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
"""Endings of weight files; the first one is taken where the same weights lie there with several."""
KINDS = {"spatial": "spatial VAE", "model": "video VAE"}
"""What each section of the config names a model of, by its `pretrained`."""
NAMED = 6
"""Files of a folder that an error names; the rest is counted."""
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of a model: all that a job reads of it, and nothing else that lies beside."""

    weights: tuple[Path, ...]
    """The file with the tensors, or the shards in the order of their names."""
    index: Path | None = None
    """The list of the shards, where there are some."""
    config: Path | None = None
    """config.json; None for a single published file without one."""

    @property
    def files(self) -> list[Path]:
        """Return config.json, the index and the weights, as far as there are any."""
        return [path for path in (self.config, self.index, *self.weights) if path is not None]

    @property
    def named_by_diffusers(self) -> bool:
        """Tell whether the weights have the names that diffusers gives, which need a config.json beside them."""
        return (self.index or self.weights[0]).name.startswith(f"{STEM}.")

    @property
    def is_full(self) -> bool:
        """Tell whether the names say nothing of another precision, as `fp16` in them does."""
        return len((self.index or self.weights[0]).name.removesuffix(".index.json").split(".")) == 2

    def sha256(self) -> str:
        """Hash the weights: of one file its sha256, of shards that of the list that `sha256sum` prints of them."""
        if len(self.weights) == 1:
            return sha256_file(self.weights[0])
        listing = "".join(f"{sha256_file(path)}  {path.name}\n" for path in self.weights)
        return hashlib.sha256(listing.encode()).hexdigest()


def find_model(path: Path, what: str = "model") -> ModelFiles:
    """Find the weights of a folder, or those that a weights file is; they are named, not read.

    Args:
        path: the folder, or a weights file.
        what: what it is called in errors, such as `spatial VAE`.

    Raises:
        UserError: if there is nothing or more than one thing to take, or a part is missing; it says what is there.
    """
    if path.is_file():
        return _whole(ModelFiles(weights=(path,), config=_beside(path)), what)
    if not path.is_dir():
        raise UserError(f"{what} {path}: no such file or folder; correct the path")
    inner = sorted(config.parent.name for config in path.glob(f"*/{CONFIG}"))
    where = f"{what} {path}" + (f" (beside its folder {_listed(inner)}, which may be meant)" if inner else "")
    found = path / choose_weights([file.name for file in path.iterdir() if not file.is_dir()], where)
    model = ModelFiles(weights=(found,), config=_beside(found))
    if found.name.endswith(".json"):
        shards = tuple(path / name for name in shard_names(found, what))
        model = ModelFiles(weights=shards, index=found, config=model.config)
    if model.named_by_diffusers and model.config is None:
        raise UserError(f"{what} {path}: {found.name} without {CONFIG}; copy its {CONFIG} there as well")
    return _whole(model, what)


def choose_weights(names: Iterable[str], where: str) -> str:
    """Choose the weights, or the index of their shards, among the names of a folder's files.

    Files with diffusers' own name come before others, full precision (no variant such as `fp16` in the name) before
    half, and safetensors before pickles, which are only ever read as tensors.

    Args:
        names: of the files of a folder.
        where: its name, for errors.

    Raises:
        UserError: if there is nothing or more than one thing to take.
    """
    ordered = sorted(names)
    found = {name: key for name in ordered if (key := _key(name)) is not None}
    found = {name: key for name, key in found.items() if f"{key[0]}.".startswith(f"{STEM}.")} or found
    stems = {stem for stem, *_ in found.values()}
    roots = [stem for stem in stems if not any(stem.startswith(f"{other}.") for other in stems)]
    if len(roots) == 1:
        return min((key, name) for name, key in found.items() if key[0] == roots[0])[1]
    if found:
        raise UserError(f"{where}: {len(found)} weight files ({_listed([*found])}); name one of them, not their folder")
    holds = f"it holds {_listed(ordered) or 'no file'}"
    if any("-of-" in name for name in ordered):
        raise UserError(f"{where}: shards without their list, a file that ends in .index.json ({holds}); copy it there")
    raise UserError(f"{where}: 0 weight files ({holds}); name a folder with {', '.join(SUFFIXES)}")


def _key(name: str) -> tuple[str, int, bool] | None:
    """Return what weights of one name share, the rank of the ending, whether they are an index; None for others."""
    before, index, after = name.partition(".index.")
    path = Path(before)
    if path.suffix.lower() not in SUFFIXES or "-of-" in name or (index and not after.endswith("json")):
        return None
    variant = after.removesuffix("json").removesuffix(".")
    return f"{path.stem}.{variant}".removesuffix("."), SUFFIXES.index(path.suffix.lower()), bool(index)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def shard_names(index: Path, what: str) -> list[str]:
    """Return the names of the shards that an index lists, sorted.

    Raises:
        UserError: if it is no such list, or names files of another folder.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError(names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{what} {index}: not a list of shards beside it; get the file again") from None
    return names


def _beside(file: Path) -> Path | None:
    config = file.parent / CONFIG
    return config if config.is_file() else None


def _whole(model: ModelFiles, what: str) -> ModelFiles:
    """Return the model if its files are there and are more than the pointers of a clone without git-lfs."""
    lost = [path.name for path in model.weights if not path.is_file()]
    if lost:
        listing = model.index or model.weights[0]
        raise UserError(f"{what} {listing}: {_listed(lost)} not found beside it; copy the missing files there")
    for path in model.weights:
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise UserError(f"{what} {path}: a pointer of git-lfs, not the weights; run `git lfs pull` there")
    return model
