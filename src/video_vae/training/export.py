"""Write the outputs of a finished stage: model/, model_raw/, log.jsonl and, last of all, run.json."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from video_vae.files import atomic_path, remove_written
from video_vae.foreign import RECORD_TRAITS, raise_if_foreign
from video_vae.models.video import VideoAutoencoderKL
from video_vae.provenance import RECORD, path_record, write_json_atomic
from video_vae.training.ema import WeightAverage
from video_vae.training.journal import LOG, Journal
from video_vae.weights.files import CONFIG, WEIGHTS
from video_vae.weights.loading import raise_if_foreign_model, save_model

MODEL = "model"
RAW_MODEL = "model_raw"


def check_places(output: Path) -> None:
    """Check before training that no foreign files lie where a stage's outputs will.

    Raises:
        UserError: which names the file.
    """
    raise_if_foreign(output / RECORD, RECORD_TRAITS)
    raise_if_foreign(output / LOG, ("step", "time", "event"))
    for name in (MODEL, RAW_MODEL):
        raise_if_foreign_model(output / name)


def export(
    output: Path, vae: VideoAutoencoderKL, average: WeightAverage | None, journal: Journal, record: dict[str, Any]
) -> None:
    """Write the outputs of a stage, each one whole or not at all.

    `model` holds the averaged weights where there are some; the raw ones then lie in `model_raw`.
    """
    check_places(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / RECORD).unlink(missing_ok=True)
    vae.to(memory_format=torch.contiguous_format)
    save_model(vae, output / (MODEL if average is None else RAW_MODEL))
    if average is None:
        remove_written(output / RAW_MODEL, (CONFIG, WEIGHTS))
    else:
        with average.applied():
            save_model(vae, output / MODEL)
    if journal.path is not None:
        with atomic_path(output / journal.path.name) as aside:
            shutil.copyfile(journal.path, aside)
    names = [MODEL, *([] if average is None else [RAW_MODEL]), *([journal.path.name] if journal.path else [])]
    written = {name: path_record(output / name) for name in names}
    write_json_atomic(output / RECORD, record | {"outputs": written})
