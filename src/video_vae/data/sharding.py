"""Split the clips of tables over jobs, by their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from video_vae.config import Columns
from video_vae.data.open_table import read_table
from video_vae.data.table import Clip
from video_vae.errors import UserError
from video_vae.provenance import fingerprint


def shard_clips(tables: Sequence[Path], shard: int, shards: int, columns: Columns | None = None) -> list[Clip]:
    """Take a shard's clips of the tables; a clip in two tables counts once.

    A clip's content says in which shard it is: clips that are added leave the others where they are.

    Raises:
        UserError: if there is no such shard, or one name stands for different clips.
    """
    if not 0 <= shard < shards:
        raise UserError(f"--shard {shard} of --shards {shards}: shards count from 0 to {shards - 1}")
    clips: dict[str, Clip] = {}
    for clip in (clip for table in tables for clip in read_table(table, columns)):
        known = clips.setdefault(clip.clip_id, clip)
        if content_of(known) != content_of(clip):
            raise UserError(f"clip_id {clip.clip_id} stands for different clips in {', '.join(map(str, tables))}")
    return [clip for clip in clips.values() if int(fingerprint(content_of(clip)), 16) % shards == shard]


def content_of(clip: Clip) -> list[Any]:
    """Return what identifies a clip wherever it lies; JSON-like."""
    return [clip.source_id, clip.start_frame, clip.num_frames]
