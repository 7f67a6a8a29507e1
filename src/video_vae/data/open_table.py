"""Open a table of clips: one that a manifest wrote, or anything that clips can be listed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from video_vae.data.manifest import complete_table
from video_vae.data.table import Clip, manifest_rows
from video_vae.errors import UserError


def read_table(path: str | Path) -> list[Clip]:
    """Read a table of clips.

    A CSV or parquet file that a manifest did not write (only `path` is required) or a folder is probed first.

    Raises:
        UserError: if the file is missing, empty, or a cell does not fit its column; names the row.
    """
    table = Path(path)
    if table.suffix.lower() != ".parquet" and not table.is_dir():
        clips = manifest_rows(table)
        if clips is not None:
            _check_names(clips, table)
            return clips
    return complete_table(table)


def _check_names(clips: Sequence[Clip], table: Path) -> None:
    if not clips:
        raise UserError(f"{table} holds no clips; make it again with `video-vae manifest`")
    names = Counter(clip.clip_id.lower() for clip in clips)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise UserError(f"{table}: clip_id {name} names {count} rows; make the table again with `video-vae manifest`")
