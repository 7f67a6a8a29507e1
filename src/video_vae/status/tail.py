"""Read the end of a file that somebody may be writing."""

from __future__ import annotations

import os
from pathlib import Path

WINDOW = 1 << 20
"""Bytes read of the end of a file, however long it is."""


def last_text(path: Path, window: int = WINDOW) -> str:
    """Return the whole lines in the last bytes of a file; nothing where it cannot be read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - window))
            content = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return content if size <= window else content.partition("\n")[2]


def last_lines(path: Path, most: int) -> list[str]:
    """Return the last lines of a file that say anything."""
    lines = [line.strip() for line in last_text(path, WINDOW // 16).replace("\r", "\n").splitlines()]
    return [line for line in lines if line][-most:]
