"""Make the weights that the first stage starts with, or that are scored where nothing is trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_vae.config import Config, load_config
from video_vae.files import output_place
from video_vae.foreign import RECORD_TRAITS, raise_if_foreign
from video_vae.models.video import VideoAutoencoderKL
from video_vae.provenance import RECORD, run_record, write_json_atomic
from video_vae.weights.files import CONFIG, ModelFiles, find_model
from video_vae.weights.hub import hub_model
from video_vae.weights.loading import (
    build_video_vae,
    check_agrees,
    check_hash,
    raise_if_foreign_model,
    save_model,
)
from video_vae.weights.open_sora import import_checkpoint

log = logging.getLogger(__name__)
CURES = {
    "spatial_vae": "set spatial.pretrained to a folder with the config.json of its spatial VAE",
    "temporal_vae": "set model.temporal to its architecture",
}
AGREE = ("scaling_factor", "shift", "scale", "chunk_frames")
"""Settings of the section `model` that a checkpoint may say of itself, and the config must not contradict."""


def pretrained_files(config: Config) -> ModelFiles:
    """Find the weights that `model.pretrained` names, here or on a hub, and compare their hash.

    Raises:
        UserError: if they are not there, or have another hash than `model.sha256`.
    """
    model, place = config.model, config.model.place
    source = model.pretrained or ""
    files = hub_model(source, model.subfolder, "model") if place is None else find_model(place, "video VAE")
    check_hash(files, model.sha256, "model", source, local=place is not None)
    return files


def load_pretrained(config: Config, spatial: Path | None = None) -> tuple[VideoAutoencoderKL, ModelFiles]:
    """Load the video VAE that `model.pretrained` names, and say which files it is of.

    Args:
        config: settings; `model` describes the net where the weights do not.
        spatial: folder whose config.json describes its spatial VAE, where the weights do not.

    Raises:
        UserError: if it cannot be had, or is not the net that the config describes.
    """
    files = pretrained_files(config)
    source = files.weights[0] if len(files.weights) == 1 else files.weights[0].parent
    described_by = spatial or config.spatial.place
    beside = described_by is not None and (described_by / CONFIG).is_file()
    vae = import_checkpoint(source, config, described_by if beside else None, own_first=True, cures=CURES)
    check_agrees(vae, config.model, f"model.pretrained: {config.model.pretrained}", AGREE)
    return vae, files


def write_start(source: str, spatial: Path | None, output: Path) -> None:
    """Write the model, its spatial VAE, and last of all the record.

    Args:
        source: YAML file of the settings, or JSON text.
        spatial: folder of the spatial VAE, in place of the config's.
        output: folder to write.

    Raises:
        UserError: if the weights cannot be had or do not fit, or something of others is in the way.
    """
    started = time.time()
    config = load_config(source)
    model, own = output_place(output) / "model", output_place(output) / "spatial"
    raise_if_foreign(output / RECORD, RECORD_TRAITS)
    for folder in (model, own):
        raise_if_foreign_model(folder)
    facts: dict[str, Any] = {}
    read: Mapping[str, Path] = {} if spatial is None else {"spatial": spatial}
    if config.model.pretrained is None:
        vae = build_video_vae(config, spatial)
    else:
        vae, files = load_pretrained(config, spatial)
        facts = {"pretrained": config.model.pretrained, "pretrained_sha256": files.sha256()}
        if config.model.place is not None:
            read = {**read, **{f"pretrained {path.name}": path for path in files.files}}
        log.info("%s: sha256 %s", config.model.pretrained, facts["pretrained_sha256"])
    output.mkdir(parents=True, exist_ok=True)
    (output / RECORD).unlink(missing_ok=True)
    save_model(vae, output / "model")
    save_model(vae.spatial, output / "spatial")
    count = sum(value.numel() for value in vae.parameters())
    written = {"model": output / "model", "spatial": output / "spatial"}
    record = run_record("start-model", config, read, outputs=written, started=started, parameters=count, **facts)
    write_json_atomic(output / RECORD, record)
