"""Make the nets that a config describes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import Tensor, nn

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.files import atomic_path, output_place, sha256_file
from video_vae.foreign import CHECKSUM, check_places
from video_vae.models.init import start_as_interpolation
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.video import VideoAutoencoderKL
from video_vae.weights.files import CONFIG, KINDS, WEIGHTS, ModelFiles, find_model
from video_vae.weights.hub import hub_model
from video_vae.weights.names import SDXL, as_diffusers
from video_vae.weights.tensors import misfits, read_tensors, take_net

log = logging.getLogger(__name__)

CHANNELS = 4
"""Of spatial and of temporal latents, as the paper has them."""
WHOLE = "get the whole weights of this architecture"


def save_model(net: ModelMixin, folder: Path) -> None:
    """Write a net in diffusers format, whole or not at all, with the hash of its weights in its config.json."""
    with atomic_path(folder) as aside:
        net.save_pretrained(aside)
        values = json.loads((aside / CONFIG).read_text(encoding="utf-8"))
        values.pop("_name_or_path", None)  # where it was loaded from is nobody else's business
        values[CHECKSUM] = sha256_file(aside / WEIGHTS)
        (aside / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def raise_if_foreign_model(
    folder: Path, names: Collection[str] = (CONFIG, WEIGHTS), traits: Collection[str] = (CHECKSUM,)
) -> None:
    """Refuse a folder to write a model to, where something of others has the name of its files.

    Raises:
        UserError: which names the file.
    """
    if output_place(folder).is_file():
        raise UserError(f"{folder} is a file, and a folder is to be written; name a folder")
    check_places({folder / name: traits for name in names})


def verify_checksum(model: ModelFiles) -> None:
    """Compare the weights of a folder with the hash that its config.json has, if it has one.

    Raises:
        UserError: if they differ: a model that loads may still be damaged.
    """
    weights, expected = model.weights[0], read_config(model).get(CHECKSUM)
    if expected is not None and weights.name == WEIGHTS and sha256_file(weights) != expected:
        folder = weights.parent
        raise UserError(f"{weights} is damaged: its hash is not that in {CONFIG}; delete {folder}, then make it again")


def read_config(model: ModelFiles) -> dict[str, Any]:
    """Read a model's config.json; empty where there is none.

    Raises:
        UserError: if it is not JSON by name.
    """
    if model.config is None:
        return {}
    try:
        values = json.loads(model.config.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it is a {type(values).__name__}")
    except (OSError, ValueError) as error:
        raise UserError(f"{model.config} cannot be read ({' '.join(str(error).split())}); get it again") from None
    return values


def load_spatial(spatial: settings.Spatial, given: Path | None = None, key: str = "spatial") -> AutoencoderKL:
    """Load the spatial VAE from a folder or file, or from what the config names (a local one or a hub id).

    Args:
        spatial: what the config says of it.
        given: folder or file to take instead.
        key: where the config says it.

    Raises:
        UserError: if it cannot be loaded, or its weights have another hash than the config says.
    """
    source = str(given) if given is not None else spatial.pretrained
    if source is None:
        raise UserError("spatial.pretrained is null and no trained spatial VAE was given; run train-spatial first")
    local = Path(source).exists()
    if local:
        inner = spatial.subfolder if given is None else None
        model = find_model(Path(source, inner or ""), "spatial VAE")
    else:
        model = hub_model(source, None if given is not None else spatial.hub_subfolder)
    check_hash(model, spatial.sha256, key, source, local=local)
    if not model.is_full:
        log.warning("spatial VAE %s: takes %s; are there none in full precision?", source, model.weights[0].name)
    verify_checksum(model)
    net = make_net(AutoencoderKL, read_config(model) or dict(SDXL), f"spatial VAE {source}")
    tensors = as_diffusers(read_tensors(model.weights, "spatial VAE"), net.config, f"spatial VAE {source}")
    cure = f"put its {CONFIG} beside it: without one it is taken for SDXL's" if model.config is None else WHOLE
    loaded: AutoencoderKL = _filled(net, tensors, f"spatial VAE {source}", cure)
    return loaded


def public_config(net: ModelMixin) -> dict[str, Any]:
    """Return what a net was made from, without what the library adds, such as the path that it came from."""
    return {key: value for key, value in dict(net.config).items() if not key.startswith("_")}


def make_net(kind: type[ModelMixin], values: Mapping[str, Any], name: str) -> ModelMixin:
    """Make a net, in fp32, with whatever weights, as its config says.

    Raises:
        UserError: if the config is of another kind of net, or one that cannot be made.
    """
    said = values.get("_class_name", kind.__name__)
    if said != kind.__name__:
        raise UserError(f"{name}: its {CONFIG} is of class {said}, not {kind.__name__}; name the folder of one")
    try:
        return kind.from_config(dict(values))
    except (KeyError, TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"{name}: its {CONFIG} describes no net ({' '.join(str(error).split())[:200]}); get it again"
        ) from None


def _filled(net: ModelMixin, tensors: Mapping[str, Tensor], name: str, cure: str = WHOLE) -> ModelMixin:
    """Return a net with the weights given, for inference; refuse those that are incomplete, too many or not finite.

    Raises:
        UserError: which names the tensors.
    """
    expected = net.state_dict()
    found = take_net(tensors, expected, name)
    problems = misfits(found, expected)
    if problems:
        raise UserError(f"{name}: cannot be loaded: {problems}; {cure}")
    net.load_state_dict(found, strict=True)
    return net.eval()


def check_hash(model: ModelFiles, expected: str | None, key: str, source: str, *, local: bool) -> None:
    """Compare weights with the hash that a section of the config gives them; ask for one where a hub gave them.

    Raises:
        UserError: if they differ.
    """
    found = model.sha256() if expected is not None or not local else ""
    if expected is None and not local:
        log.warning("%s: set %s.sha256: %s, so that no other weights are ever taken", source, key, found)
    elif expected is not None and found != expected:
        names = ", ".join(str(path) for path in model.weights)
        raise UserError(
            f"{KINDS.get(key, 'spatial VAE')}: {names} has sha256 {found}, but {key}.sha256 says {expected}"
        )


def check_agrees(vae: VideoAutoencoderKL, model: settings.Model, source: str, keys: Sequence[str]) -> None:
    """See that a video VAE is the net that the section `model` of a config describes.

    Args:
        vae: the video VAE.
        model: the settings.
        source: where it comes from, for the error.
        keys: which of them count besides `temporal`.

    Raises:
        UserError: which names the first difference.
    """
    channels = {vae.temporal.config[key] for key in ("in_channels", "latent_channels")}
    channels.add(vae.spatial.config["latent_channels"])
    if channels != {CHANNELS}:
        said = ", ".join(map(str, sorted(channels - {CHANNELS})))
        raise UserError(f"{source} has {said} latent channels, this workflow's have {CHANNELS}; give another model")
    wanted = model.model_dump(mode="json", exclude={"temporal": {"init"}})
    pairs = [(f"temporal.{key}", vae.temporal.config[key], value) for key, value in wanted["temporal"].items()]
    pairs += [(key, vae.config[key], wanted[key]) for key in keys]
    for key, found, value in pairs:
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise UserError(f"{source} has {key.rpartition('.')[2]} {found}, model.{key} is {value}; make them agree")


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
    model = find_model(folder)
    verify_checksum(model)
    net = make_net(VideoAutoencoderKL, read_config(model), f"model {folder}")
    loaded: VideoAutoencoderKL = _filled(net, read_tensors(model.weights, "model"), f"model {folder}")
    return loaded
