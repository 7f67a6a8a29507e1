"""Take what earlier latent caches hold of the same clips and settings, so that only new clips are encoded.

Rows are compared with their checksums.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from video_vae.data.kept import earlier_shards
from video_vae.files import atomic_path
from video_vae.latents.cache import CHECKSUMS, FORMAT, NOTE

log = logging.getLogger(__name__)

PARTS = "parts"
"""Entry of a file's note: what identifies each of its tensors by content and settings, by their names."""
ROWS = 64
"""Rows copied at once."""


def take_over(wanted: Mapping[str, Path], output: Path, folder: Path | None) -> int:
    """Copy parts that earlier caches hold: raw numbers of each, as encoding writes them; return how many.

    Args:
        wanted: by content and settings, where each part is to lie.
        output: the cache file to be made; it and its second name are looked into.
        folder: another folder of folders with caches.
    """
    missing = {key: part for key, part in wanted.items() if not part.exists()}
    taken = 0
    for file in earlier_shards(output, folder):
        if not missing:
            break
        try:
            taken += _copy(file, missing)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            log.info("%s is skipped: %s", file, " ".join(str(error).split()))
    return taken


def _copy(file: Path, missing: dict[str, Path]) -> int:
    """Copy the missing parts that a file holds, and strike them off."""
    count = 0
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata() or {}
        if metadata.get("format") != FORMAT:
            return 0
        names: dict[str, str] = json.loads(metadata[NOTE]).get(PARTS, {})
        first = 0
        for name in (name for name in stored.offset_keys() if name != CHECKSUMS):
            rows = stored.get_slice(name).get_shape()[0]
            part = missing.get(names.get(name, ""))
            if part is not None and _copy_rows(stored, name, first, rows, part):
                del missing[names[name]]
                count += 1
            first += rows
    return count


def _copy_rows(stored: Any, name: str, first: int, rows: int, part: Path) -> bool:
    """Copy a tensor row by row; false, and nothing is left, where a row is not what was written."""
    values, checksums = stored.get_slice(name), stored.get_slice(CHECKSUMS)
    with suppress(_DamagedError), atomic_path(part) as aside, aside.open("wb") as stream:
        for start in range(0, rows, ROWS):
            piece = values[start : min(start + ROWS, rows)].numpy()
            expected = checksums[first + start : first + start + len(piece)].tolist()
            if expected != [zlib.crc32(row) for row in piece]:
                raise _DamagedError
            stream.write(piece.data)
        return True
    return False


class _DamagedError(Exception):
    """A row has another checksum than when it was written."""
