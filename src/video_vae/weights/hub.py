"""Find the files of a model in the hub's cache or on the hub, or say within seconds that it is not reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from video_vae.config.types import HUB_ID
from video_vae.errors import UserError
from video_vae.weights.files import CONFIG, KINDS, ModelFiles, choose_weights, find_model, shard_names

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""A mirror on this machine needs no https."""
TIMEOUT = 5.0
"""Seconds that a hub has to answer whether it has a model."""


def hub_model(name: str, subfolder: str | None, key: str = "spatial") -> ModelFiles:
    """Return a model's files in the hub's cache; what is not there is fetched.

    Weights that the cache holds in full precision are taken without asking the hub.

    Args:
        name: hub id, such as `owner/model`.
        subfolder: folder inside the repository.
        key: section of the config that names it, `spatial` or `model`.

    Raises:
        UserError: if it is no hub id, the hub is not reached or refuses, or the model holds no weights.
    """
    if not is_hub_id(name):
        said = "no such file or folder here, and no hub id"
        raise UserError(f"{KINDS[key]} {name}: cannot be loaded ({said}); correct {key}.pretrained")
    address = urlsplit(constants.ENDPOINT)
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        raise UserError(f"{KINDS[key]} {name}: HF_ENDPOINT is {constants.ENDPOINT}; fetch from an https address only")
    cached = cached_model(name, subfolder)
    if cached is not None and cached.is_full:
        return cached
    try:
        return _fetch(name, PurePosixPath(subfolder or ""), key)
    except UserError:
        if cached is None:
            raise
        return cached


def is_hub_id(name: str) -> bool:
    """Tell whether a name may be a model's on a hub."""
    return HUB_ID.fullmatch(name) is not None


def cached_model(name: str, subfolder: str | None) -> ModelFiles | None:
    """Return a model's files in the hub's cache; None where they are not all there."""
    config = try_to_load_from_cache(name, str(PurePosixPath(subfolder or "", CONFIG)))
    try:
        return find_model(Path(config).parent) if isinstance(config, str) else None
    except UserError:
        return None


def _fetch(name: str, folder: PurePosixPath, key: str) -> ModelFiles:
    """Fetch config.json, the weights and the list of their shards."""
    where = f"{KINDS[key]} {name}"
    cure = f"no folder here has that name: set {key}.pretrained to a folder or to a model that this machine reaches"
    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        found = [PurePosixPath(file.rfilename) for file in api.model_info(name, timeout=TIMEOUT).siblings or []]
        names = [path.name for path in found if path.parent == folder]
        chosen = choose_weights(names, _shown(where, folder, found, key))
        paths = [Path(api.hf_hub_download(name, str(folder / part))) for part in (CONFIG, chosen) if part in names]
        if chosen.endswith(".json"):
            for part in shard_names(paths[-1], where):
                api.hf_hub_download(name, str(folder / part))
    except HfHubHTTPError as error:
        raise UserError(f"{where}: cannot be loaded ({constants.ENDPOINT} says {_said(error)}); {cure}") from None
    except Exception as error:  # the client's libraries raise kinds of their own where nothing is reached
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{where}: cannot be loaded ({constants.ENDPOINT} is not reached: {_said(error)}); {cure}"
        ) from None
    return find_model(paths[-1].parent if CONFIG in names else paths[-1], KINDS[key])


def _shown(where: str, folder: PurePosixPath, files: Sequence[PurePosixPath], key: str) -> str:
    """Name a folder of a model on a hub, and the others in it that a model may be in."""
    others = sorted({str(path.parent) for path in files if path.name == CONFIG and path.parent != folder} - {"."})
    inner = f" (set {key}.subfolder to one of {', '.join(others)})" if others else ""
    return f"{where}, folder {folder}{inner}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
