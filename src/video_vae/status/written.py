"""Which files of a folder this project wrote, by the records of its jobs, and whether somebody uses them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from video_vae.config import Config
from video_vae.config.slices import as_text
from video_vae.files import HELD, SCRATCH, lexical, sha256_file
from video_vae.records import Expected, records_below

BESIDE = re.compile(
    r"""(?x)
    state/[^/]+/[0-9a-f]{16}/(lock | log\.jsonl | profile-\d{9,}\.json)
    | state/[^/]+/[0-9a-f]{16}/step-\d{9,}(\.rank-\d{4,})?/state\.(json|safetensors)
    | stage\d/tensorboard/events\.out\.tfevents\.[^/]+
    | data/files\.jsonl
    | \.shard_\d+\.(safetensors|tar)\.kept
    | \.shard_\d+\.parts/[^/]+\.[0-9a-f]{16}(\.\w+)?
    | (.+/)?metrics/\.kept_scores/[0-9a-f]{16}\.npz
    """
)
"""What jobs leave in the folder of a run or a cache and no record names, those that were cut off included."""
CLIP_RECORD = {"fingerprint", "row", "bytes"}
BENCHMARK = "s\th:m:s\t"
"""How Snakemake's benchmark files begin."""


def files_below(folder: Path) -> list[Path]:
    """List all that is no folder below a folder; links are not followed."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found += [Path(parent, name) for name in (*names, *links)]
    return sorted(found)


def written_files(folder: Path, base: Path) -> set[Path]:
    """Return the files below a folder that this project's jobs wrote and that are unchanged since.

    Args:
        folder: a run, a cache, or the state of a training.
        base: the folder that the jobs ran in, which recorded paths are relative to.
    """
    files = [path for path in files_below(folder) if path.is_file() and not path.is_symlink()]
    top = _run_of(folder)
    records = list(records_below(folder))
    outputs = {lexical(base / item.path): item for record in records for item in record.expected("outputs")}
    own = {record.path for record in records if record.wrote_below(Path(record.path).parent, base)}
    return {
        path
        for path in files
        if (_is_as_recorded(path, item) if (item := outputs.get(lexical(path))) else str(path) in own)
        or _is_beside(path, path.relative_to(top).as_posix())
    }


def _run_of(folder: Path) -> Path:
    """Return the folder of the run that a state belongs to; a run and a cache are folders of their own."""
    return folder.parents[2] if folder.parent.parent.name == "state" else folder


def _is_as_recorded(path: Path, item: Expected) -> bool:
    status = path.stat()
    same = (item.bytes, item.mtime_ns) == (status.st_size, status.st_mtime_ns)
    return same or (item.bytes in (None, status.st_size) and sha256_file(path) == item.sha256)


def _is_beside(path: Path, inner: str) -> bool:
    """Tell what jobs and Snakemake leave without recording it, by its name and what is in it."""
    if path.parent.name == "records" and path.suffix == ".json":
        return _json(path).keys() >= CLIP_RECORD
    if inner.startswith("settings/") and path.suffix == ".json":
        values = _json(path)  # as the workflow writes the settings of a job, to the letter
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        return values.keys() <= {*Config.model_fields} and text == as_text(values).strip()
    if path.suffix == ".tsv":
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline().startswith(BENCHMARK)
    return path.name == ".snakemake_timestamp" or BESIDE.fullmatch(inner) is not None or _is_scratch(path)


def _json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        values = json.loads(path.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}


def _is_scratch(path: Path) -> bool:
    """Tell whether a file lies in what a killed job left half written: a folder of a known form with its lock."""
    return any(
        part.name.startswith(".") and part.name.endswith(SCRATCH) and (part / HELD).is_file() for part in path.parents
    )


def why_used(folder: Path, minutes: float) -> str:
    """Say why a folder may be in use; nothing where no process of this machine has a file of it, and all are old."""
    newest = max((path.lstat().st_mtime for path in files_below(folder)), default=0.0)
    if time.time() - newest < 60 * minutes:
        return f"changed in the last {minutes:g} minutes"
    return next((f"process {number} uses it" for number in _users(folder.resolve())), "")


def _users(folder: Path) -> Iterator[int]:
    """Yield the processes that have a file below a folder open or mapped, as far as this user may see."""
    inside = f"{folder}{os.sep}"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            opened = [str(link.readlink()) for link in (process / "fd").iterdir() if link.is_symlink()]
            mapped = (process / "maps").read_text(encoding="utf-8", errors="replace")
            if any(name.startswith(inside) for name in opened) or f" {inside}" in mapped:
                yield int(process.name)
