"""Tell files that cannot be used from files that are not there any more, or not what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from video_vae.data.table import Clip
from video_vae.errors import UserError
from video_vae.tar_members import Extent, TarProblem, find, member_of

Reason = Literal[
    "unreadable", "truncated", "damaged", "too short", "too small", "duplicate", "missing", "changed", "outside"
]

MAX_PIXELS = 1 << 27
"""Largest frame that is decoded, in pixels: a few bytes can announce one that fills the memory."""


class MediaError(Exception):
    """A file cannot be used: `reason` is the word of rejected.csv, `detail` says what was seen."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    @property
    def gone(self) -> bool:
        """Tell whether the file that the table was made from is not there; another time it may be."""
        return self.reason in ("missing", "changed")

    def __str__(self) -> str:
        """Join reason and detail."""
        return f"{self.reason}: {self.detail}"


def check_exists(path: str | Path) -> None:
    """Raise a MediaError that says why, unless `path` is a file with content."""
    if member_of(path) is not None:
        extent = extent_of(path)
        _check_content(extent.size if extent else 0)
        return
    file = Path(path)
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except OSError as error:
        raise MediaError("unreadable", message(error)) from None
    if not file.is_file():
        raise MediaError("unreadable", "not a file")
    _check_content(size)


def _check_content(size: int) -> None:
    if size == 0:
        raise MediaError("unreadable", "empty file (0 bytes)")


def extent_of(path: str | Path) -> Extent | None:
    """Find the bytes of a member of a tar shard; None where a path is that of a file.

    Raises:
        MediaError: if the shard or the member is missing, or cannot be used.
    """
    try:
        return find(path)
    except TarProblem as problem:
        raise MediaError(problem.reason, problem.detail) from None


def check_size(width: int, height: int) -> None:
    """Raise a MediaError where frames have more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise MediaError("unreadable", f"frames of {width}x{height} pixels, more than {MAX_PIXELS:,}")


def raise_if_source_missing(clip: Clip, error: MediaError) -> None:
    """Stop where a clip's file is not there: going on without it would make another result than the table stands for.

    Raises:
        UserError: if it is missing or changed.
    """
    if error.gone:
        raise UserError(gone(clip.path, str(error))) from None


def gone(path: str, reason: str) -> str:
    """Say what to do about a file that is missing or changed since the table was made."""
    return f"{path}: {reason}; put the file back, then the same command goes on, or make the manifest again without it"


def message(error: Exception) -> str:
    """Write an error of a library or the system in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
