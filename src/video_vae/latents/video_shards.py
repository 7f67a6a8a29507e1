"""Files of video latents, as diffusion models train on them: normalised, one tensor per clip, listed in an index.

A folder holds `shard_K-NNNNN.safetensors`, whose tensors (C,T',h,w) are named by clip id, and `index.csv` with a row
per clip. Several jobs write one list each, `shard_K.csv`, and the last one joins them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from video_vae.data.table import read_csv_rows, write_rows
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.weights.tensors import save_tensors

FORMAT = "video-vae video latents 1"
NOTE = "video_vae_video_latents"
INDEX = "index.csv"
COLUMNS = (
    "clip_id",
    "file",
    "path",
    "kind",
    "start_frame",
    "frames",
    "height",
    "width",
    "fps",
    "latent_frames",
    "text",
    "split",
    "crc32",
    "model_sha256",
)
"""Of the index: `file` lies in this folder, `path` is the source; size, rate and number are of the encoded frames."""
_NUMBERS = ("frames", "height", "width", "crc32")

Row = Mapping[str, str]


def shard_file(shard: int, number: int) -> str:
    """Name a file of a job's latents."""
    return f"shard_{shard}-{number:05d}.safetensors"


def shard_list(shard: int) -> str:
    """Name the list of a job's clips, where there are several jobs."""
    return f"shard_{shard}.csv"


def write_shard(path: Path, latents: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write a file of latents, whole or not at all, with a note that JSON can hold."""
    texts = {"format": FORMAT, NOTE: json.dumps(note, sort_keys=True, separators=(",", ":"))}
    with atomic_path(path) as aside:
        save_tensors({name: value.contiguous() for name, value in latents.items()}, aside, texts)


def read_note(path: Path) -> dict[str, Any] | None:
    """Read the note of a file of latents; None where there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
        note: dict[str, Any] | None = json.loads(texts[NOTE]) if texts.get("format") == FORMAT else None
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    return note


def checksum(latents: Tensor) -> int:
    """Return zlib's checksum of the bytes of a tensor."""
    return zlib.crc32(latents.contiguous().cpu().flatten().view(uint8).numpy().data)


def write_index(path: Path, rows: Iterable[Row]) -> None:
    """Write a list of clips."""
    write_rows(path, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


def read_index(path: Path) -> list[dict[str, str]]:
    """Read a list of clips, or that of a folder.

    Raises:
        UserError: if there is none, or it has other columns or numbers.
    """
    index = path / INDEX if path.is_dir() else path
    if not index.is_file():
        raise UserError(f"{path} has no {INDEX}; give the folder that `video-vae encode` wrote, all of its shards")
    header, rows = read_csv_rows(index)
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(f"{index} has no column `{missing[0]}`; make it again with `video-vae encode`")
    for number, row in enumerate(rows, 2):
        wrong = next((name for name in _NUMBERS if not row[name].isdigit()), None)
        if wrong is not None:
            raise UserError(f"{index}, row {number}: {wrong} is {row[wrong]!r}; make it again with `video-vae encode`")
    return rows


def join_indices(folder: Path, shards: int) -> Path | None:
    """Write the index of a folder from the lists of all jobs; None where some are missing or of another model."""
    lists = [folder / shard_list(shard) for shard in range(shards)]
    if not all(path.is_file() for path in lists):
        return None
    rows = [row for path in lists for row in read_index(path)]
    if len({row["model_sha256"] for row in rows}) > 1:
        return None
    write_index(folder / INDEX, rows)
    return folder / INDEX


def forget_index(folder: Path) -> None:
    """Remove the index of a folder, if that is what lies there under its name."""
    with suppress(UserError):
        read_index(folder)
        (folder / INDEX).unlink()


def read_latents(folder: Path, row: Row) -> Tensor:
    """Read the latents (C,T',h,w) of a clip.

    Raises:
        UserError: if they are not there, or not what was written.
    """
    path = folder / row["file"]
    cure = "make it again with `video-vae encode`"
    try:
        with safe_open(path, framework="pt") as file:
            latents: Tensor = file.get_tensor(row["clip_id"])
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the latents of {row['clip_id']} cannot be read ({error}); {cure}") from None
    if checksum(latents) != int(row["crc32"]):
        raise UserError(f"{path} is damaged: the latents of {row['clip_id']} are not those that were written; {cure}")
    return latents


def remove_others(folder: Path, shard: int, kept: Sequence[str]) -> None:
    """Remove files of latents that an earlier run of a job wrote and this one did not."""
    for path in folder.glob(f"shard_{shard}-*.safetensors"):
        if path.name not in kept and read_note(path) is not None:
            path.unlink()
