"""What sources hold before anybody looks into the files: candidates for clips, and what was rejected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from video_vae.data.content import Reason
from video_vae.data.spans import Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file, or a part of one, that may become a clip."""

    path: str
    listed: bool = False
    """Named by a table (which wins over a mere find in a folder)."""
    part: Span | None = None
    """Part of the file; None takes all of it."""
    fps: float | None = None
    """Frame rate that a table gives; counts where the file has none of its own."""
    clip_id: str = ""
    text: str = ""
    split: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A row of rejected.csv."""

    path: str
    reason: Reason
    detail: str


@dataclass(kw_only=True)
class Found:
    """All that the sources hold; `skipped` counts files that do not look like media."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: int = 0
    root: Path | None = None
    """Folder that every file must lie in."""


def printable(path: str) -> str:
    r"""Write bytes of a path that are not UTF-8 as escapes (`\xe9`)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


REJECTED = ("path", "reason", "detail")
"""Columns of rejected.csv."""


def rejections(rows: Sequence[Rejected]) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of rejected.csv in a fixed order."""
    for row in sorted(rows, key=lambda item: (item.path, item.reason, item.detail)):
        yield row.path, row.reason, row.detail
