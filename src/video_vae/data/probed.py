"""Remember what files were found to be, so that listing them again looks only into what is new or changed.

One JSON object per line, written as files are probed: a listing that was killed goes on with the files it lacks.
Imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_vae.files import atomic_path
from video_vae.tar_members import file_of

PROBED = "files.jsonl"
"""File beside the manifest."""
FORMAT = "video-vae files 8"
"""First line; raised where the same file would be found to be something else."""


def stamp(path: str | Path) -> list[int] | None:
    """Tell a file from a changed one without reading it: size (bytes), time of change of content and of status (ns).

    The second time cannot be set by anybody: it gives away a file that was replaced and dated back. Of a folder, the
    sum and the latest of what it holds. None where there is no such file.
    """
    try:
        status = file_of(path).stat()
        inner = [entry.stat() for entry in os.scandir(path)] if stat.S_ISDIR(status.st_mode) else []
    except OSError:
        return None
    everything = [status, *inner]
    size = sum(item.st_size for item in inner) if inner else status.st_size
    return [size, max(item.st_mtime_ns for item in everything), max(item.st_ctime_ns for item in everything)]


def read_probed(journal: Path) -> dict[str, dict[str, Any]]:
    """Read what is known of files, by path; half a line, left by a listing that was killed, counts as nothing."""
    known: dict[str, dict[str, Any]] = {}
    try:
        with journal.open(encoding="utf-8", errors="replace") as stream:
            if stream.readline().rstrip("\n") != FORMAT:
                return {}
            for line in stream:
                if line.endswith("\n"):
                    entry = json.loads(line)
                    known[entry["path"]] = entry
    except (OSError, ValueError, KeyError):
        return known
    return known


def rewrite_probed(journal: Path, known: Mapping[str, Any]) -> None:
    """Write a journal again with what still holds, so that the file does not grow with every change."""
    with atomic_path(journal) as aside, aside.open("w", encoding="utf-8") as stream:
        stream.write(f"{FORMAT}\n")
        stream.writelines(json.dumps(entry, separators=(",", ":")) + "\n" for entry in known.values())
