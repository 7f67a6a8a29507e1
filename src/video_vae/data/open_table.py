"""Open a table of clips: one that a manifest wrote, or anything that clips can be listed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from video_vae.config import Columns
from video_vae.data.build_manifest import complete_table
from video_vae.data.rows import CSV_SUFFIXES, TABLE_SUFFIXES
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.data.table import Clip, manifest_rows
from video_vae.errors import UserError

_NEVER_MANIFESTS = TABLE_SUFFIXES - CSV_SUFFIXES | IMAGE_SUFFIXES | VIDEO_SUFFIXES


def read_table(path: str | Path, columns: Columns | None = None) -> list[Clip]:
    """Read a table of clips.

    Whatever a manifest did not write is probed first: lists of clips, whose columns `columns` may name, folders, files.

    Raises:
        UserError: if the file is missing, empty, or a cell does not fit its column; names the row.
    """
    table = Path(path).expanduser()
    if table.suffix.lower() not in _NEVER_MANIFESTS and not table.is_dir() and not _is_binary(table):
        clips = manifest_rows(table)
        if clips is not None:
            _check_names(clips, table)
            return clips
    return complete_table(table, columns)


def _is_binary(path: Path) -> bool:
    """Tell whether a file with any ending, or none, is a video or image rather than a list."""
    if path.suffix.lower() in CSV_SUFFIXES:
        return False
    try:
        with path.open("rb") as stream:
            return b"\0" in stream.read(1 << 16)
    except OSError:
        return False


def _check_names(clips: Sequence[Clip], table: Path) -> None:
    if not clips:
        raise UserError(f"{table} holds no clips; list some on this side, then make it again with `video-vae manifest`")
    names = Counter(clip.clip_id.lower() for clip in clips)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise UserError(f"{table}: clip_id {name} names {count} rows; make the table again with `video-vae manifest`")
