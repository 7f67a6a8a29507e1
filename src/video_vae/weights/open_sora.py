"""Turn a published checkpoint into this project's model folder, and back."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.models import VideoAutoencoderKL
from video_vae.weights.files import CONFIG, ModelFiles, find_model
from video_vae.weights.loading import load_video_vae, make_net, public_config, read_config, verify_checksum
from video_vae.weights.names import SDXL
from video_vae.weights.tensors import misfits, read_file, read_tensors, save_tensors, take_net

CONFIG_TEXT = "config"
"""Name of the text beside the tensors of an exported file: its config.json."""
IMPORT_CURES = {
    "spatial_vae": "give --spatial the folder with the config.json of its spatial VAE",
    "temporal_vae": "set model.temporal in the config (--config) to its architecture",
}
"""What to do about weights of a part that do not fit, on the command line of `import`."""
_OPEN_SORA = "VideoAutoencoderPipeline"
"""What the config.json of the published Open-Sora VAE says it is of."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint: a .safetensors file, one that torch saved, or a folder that holds one.

    Raises:
        UserError: if there is none or more than one, or the file is broken or holds more than tensors.
    """
    return read_tensors(find_model(path, "checkpoint").weights, "checkpoint")


def import_checkpoint(
    checkpoint: Path,
    config: settings.Config | None = None,
    spatial: Path | None = None,
    key: str | None = None,
    own_first: bool = False,
    cures: Mapping[str, str] = IMPORT_CURES,
) -> VideoAutoencoderKL:
    """Load a published checkpoint into the net that it is of; every name and shape must fit.

    Args:
        checkpoint: the file, or the folder that holds it.
        config: settings whose `model` describes the net; where it is not given, what was saved with the tensors does,
            or config.json beside them, or else it is the published net.
        spatial: folder whose config.json describes the spatial VAE; else as for `config`, or SDXL's.
        key: the set of weights to take, where there are several in it.
        own_first: what the checkpoint says of itself counts more than `config` and `spatial`.
        cures: what to do where the weights of a part do not fit: `spatial_vae`, `temporal_vae`.

    Raises:
        UserError: if it cannot be read or does not fit.
    """
    files = find_model(checkpoint, "checkpoint")
    verify_checksum(files)
    parts = [read_file(path, "checkpoint") for path in files.weights]
    tensors = {name: tensor for part, _ in parts for name, tensor in part.items()}
    said = described(files, parts[0][1]) if config is None or own_first else {}
    values = said or net_values((config or settings.Config()).model)
    if spatial is not None and not (said and own_first):
        values = values | {"spatial": _spatial_values(spatial)}
    with torch.device("meta"):
        net: Any = make_net(VideoAutoencoderKL, values, f"checkpoint {checkpoint}")
    expected = net.state_dict()
    found = take_net(tensors, expected, f"checkpoint {checkpoint}", key, "take one of them by --key of import")
    problems = misfits(found, expected)
    if problems:
        raise UserError(f"checkpoint {checkpoint}: {problems}; {_cure(found, expected, cures)}")
    net.load_state_dict({name: value.float() for name, value in found.items()}, strict=True, assign=True)
    return net


def _spatial_values(folder: Path) -> dict[str, Any]:
    """Read the config.json of a spatial VAE: its weights are not needed.

    Raises:
        UserError: if there is none, or it is of another kind of net.
    """
    config = folder / CONFIG if folder.is_dir() else folder.parent / CONFIG
    if not config.is_file():
        raise UserError(f"--spatial {folder}: no {CONFIG} there; give the folder with the spatial VAE's {CONFIG}")
    values = read_config(ModelFiles(weights=(), config=config))
    if values.get("_class_name", AutoencoderKL.__name__) != AutoencoderKL.__name__:
        raise UserError(f"--spatial {config}: of class {values['_class_name']}; give the folder of an AutoencoderKL")
    return {name: value for name, value in values.items() if not name.startswith("_")}


def _cure(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], cures: Mapping[str, str]) -> str:
    """Say which option is to be set where weights do not fit the net that was made for them."""
    shared = found.keys() & expected.keys()
    wrong = (found.keys() ^ expected.keys()) | {name for name in shared if found[name].shape != expected[name].shape}
    if not shared:
        return "none of its names is one of a video VAE's: give the checkpoint of one"
    named = [cure for part, cure in cures.items() if any(name.startswith(f"{part}.") for name in wrong)]
    return " and ".join(named) or "get the file again"


def net_values(model: settings.Model) -> dict[str, Any]:
    """Return the arguments of the net that the section `model` of a config describes, around SDXL's spatial VAE."""
    values = model.model_dump(
        mode="json", exclude={"temporal": {"init"}, **dict.fromkeys(("pretrained", "subfolder", "sha256"), True)}
    )
    return values | {"spatial": dict(SDXL)}


def described(files: ModelFiles, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of the net that a checkpoint itself describes; empty where it does not.

    Raises:
        UserError: if the description cannot be read.
    """
    try:
        values = json.loads(texts[CONFIG_TEXT]) if CONFIG_TEXT in texts else read_config(files)
        if values.get("_class_name") == VideoAutoencoderKL.__name__:
            return {name: value for name, value in values.items() if not name.startswith("_")}
        if _OPEN_SORA in (values.get("model_type"), *(values.get("architectures") or ())):
            names = {"shift": "shift", "scale": "scale", "micro_frame_size": "chunk_frames"}
            given = {names[name]: value for name, value in values.items() if name in names}
            return net_values(settings.Model.model_validate(given))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        where = files.config or files.weights[0]
        raise UserError(
            f"checkpoint {where}: its {CONFIG} cannot be understood ({' '.join(str(error).split())[:200]}); "
            "give --config with the section `model` of the net"
        ) from None
    if "_class_name" in values:
        lacks = ": the temporal VAE is missing" if values["_class_name"] == AutoencoderKL.__name__ else ""
        cure = "give a video VAE; a spatial VAE alone is named by spatial.pretrained in a config"
        raise UserError(f"checkpoint {files.config}: of class {values['_class_name']}{lacks}; {cure}")
    return {}


def config_text(net: VideoAutoencoderKL) -> str:
    """Return a net's config.json in one line, as files that are exported hold it."""
    return json.dumps({"_class_name": type(net).__name__, **public_config(net)})


def export_checkpoint(folder: Path, output: Path) -> None:
    """Write the weights of a model folder under the published names, with its config.json as text beside them.

    The ending of `output` says how: safetensors, or what `torch.load(..., weights_only=True)` reads (`files.SUFFIXES`).
    """
    net = load_video_vae(folder)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    text = config_text(net)
    with atomic_path(output) as aside:
        if output.suffix.lower() == ".safetensors":
            save_tensors(state, aside, {"format": "pt", CONFIG_TEXT: text})
        else:
            ordered: Any = OrderedDict(state)
            ordered._metadata = OrderedDict({"": {"version": 1, CONFIG_TEXT: text}})  # where torch itself keeps such
            torch.save(ordered, aside)
