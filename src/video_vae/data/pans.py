"""Training clips made of the training photographs (`data.pans`), in a tar shard beside the tables that list them.

Each is a small H.264 file of its own, named `pan-<photograph>-<number>`. What it shows depends on the photograph's
content, its number, the settings and the seed alone, so the same photograph gives the same bytes again.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from video_vae.config import Data
from video_vae.data.candidates import Candidate
from video_vae.data.content import MediaError
from video_vae.data.moving_views import pan
from video_vae.data.prefetch import mapped
from video_vae.data.storage import ShortGroupsWriter
from video_vae.data.table import PAN, Clip
from video_vae.data.video import iterate_clip
from video_vae.data.webdataset import shard_items
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.foreign import PANS
from video_vae.progress import progress
from video_vae.tar_members import header, stem_of

FORMAT = f"{PANS} 1"
"""Raised where the same photograph and settings would give another clip."""
_NOTE = "pans.json"
_NAME_LENGTH = 100
_RATE = 25.0
"""Frames per second where `data.fps` asks for none."""


def size_of(data: Data) -> tuple[int, int]:
    """Return height and width of the clips: what the model sees at the largest enlargement, without loss."""
    enlarged = max(data.scales) if data.crop == "random" else data.zoom
    height, width = (2 * math.ceil(side * enlarged / 2) for side in data.resolution)
    return height, width


def write_pans(shard: Path, clips: Sequence[Clip], data: Data, seed: int, workers: int) -> list[Candidate]:
    """Make clips of the photographs on the training side and write them, whole or not at all; say what was written.

    Raises:
        UserError: if there is no such photograph, or one cannot be read any more.
    """
    photographs = [clip for clip in clips if clip.kind == "image" and clip.split == "train"]
    if not photographs:
        raise UserError(
            "data.pans makes clips of photographs, and no image is among the training clips; add images to "
            "data.sources or data.packages, or set data.pans.clips to 0"
        )
    wanted = [(photograph, number) for photograph in photographs for number in range(data.pans.clips)]
    note = {"format": FORMAT, "seed": seed, "pans": data.pans.model_dump(), "size": size_of(data)}
    with atomic_path(shard) as aside, tarfile.open(aside, "w") as archive:
        for name, content in ((_NOTE, json.dumps(note).encode()), *_made(wanted, data, seed, workers)):
            archive.addfile(header(name, len(content)), io.BytesIO(content))
    return [
        Candidate(path=item.path, listed=True, split="train", text=f"made of {_photograph(item.path)}")
        for item in shard_items(shard, listed=True)
        if isinstance(item, Candidate)
    ]


def _photograph(path: str) -> str:
    return stem_of(path).removeprefix(PAN).rpartition("-")[0]


def _made(wanted: Sequence[tuple[Clip, int]], data: Data, seed: int, workers: int) -> Iterator[tuple[str, bytes]]:
    """Yield the members of the shard in their order."""
    with tempfile.TemporaryDirectory() as folder:
        make = partial(_member, folder=Path(folder), data=data, seed=seed)
        yield from progress(mapped(make, wanted, workers), total=len(wanted), desc="make pans", unit="clips")


def _member(item: tuple[Clip, int], folder: Path, data: Data, seed: int) -> tuple[str, bytes]:
    photograph, number = item
    name = f"{PAN}{photograph.clip_id[:_NAME_LENGTH]}-{number}.mp4"
    frames = pan(_read(photograph), _length(data), size_of(data), _random(photograph, number, seed))
    with ShortGroupsWriter(folder / name, data.fps or _RATE) as writer:
        writer.write(frames)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    return name, content


def _length(data: Data) -> int:
    """Return the frames of a file, of which the model sees `data.pans.frames`."""
    return (data.pans.frames - 1) * data.frame_interval + 1


def _read(photograph: Clip) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        return next(iterate_clip(photograph, [0], 1))[0]
    except MediaError as error:
        raise UserError(f"data.pans: {photograph.path}: {error}; run `video-vae manifest` again") from None


def _random(photograph: Clip, number: int, seed: int) -> np.random.Generator:
    """Make the generator of a clip: a pure function of the seed, the photograph's content and the clip's number."""
    return np.random.default_rng([seed, int(photograph.source_id, 16), number])
