"""Identify clips by content: a file by its bytes, a folder of frames by theirs in their order."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from video_vae.data.content import MediaError, check_exists, extent_of, message
from video_vae.data.frame_folders import frame_files
from video_vae.data.probed import stamp
from video_vae.data.table import Clip
from video_vae.files import sha256_file
from video_vae.tar_members import file_of, learn, open_bytes

_HASH = re.compile("[0-9a-f]{16}")


def content_sha256(path: str | Path) -> str:
    """Hash a file, or the frames of a folder: 64 hexadecimal digits.

    Raises:
        MediaError: if a folder holds no frames, or not all.
        OSError: if a file cannot be read.
    """
    if extent_of(path) is not None:
        with open_bytes(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if not Path(path).is_dir():
        return sha256_file(path)
    hashes = [sha256_file(file) for file in frame_files(Path(path))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def is_content_id(source_id: str) -> bool:
    """Tell whether a source is named by its content; tables that no manifest wrote may name theirs in other ways."""
    return bool(_HASH.fullmatch(source_id))


def check_content(clip: Clip) -> None:
    """Check that a clip's file still has the hash that the table gives; a file that stays as it is is hashed once.

    Raises:
        MediaError: if it is missing or changed.
    """
    if not is_content_id(clip.source_id):
        check_exists(clip.path)
        return
    know_place(clip)
    try:
        status = file_of(clip.path).stat()
        seen = tuple(stamp(clip.path) or ()) if Path(clip.path).is_dir() else (status.st_size, status.st_mtime_ns)
        found = _content(clip.path, seen, status.st_ino)
    except OSError as error:
        raise MediaError("missing", message(error)) from None
    if found != clip.source_id:
        raise MediaError("changed", f"its content is not what the table lists (source_id {clip.source_id})")


def know_place(clip: Clip) -> None:
    """Take a clip's place in its shard from its table; what lies there is compared with the table's hash."""
    if clip.offset is not None and clip.bytes is not None and is_content_id(clip.source_id):
        learn(clip.path, clip.offset, clip.bytes)


@lru_cache(maxsize=1 << 18)
def _content(path: str, seen: tuple[int, ...], inode: int) -> str:
    """Return the `source_id` of a file (the other arguments make a new file a new key)."""
    del seen, inode
    return content_sha256(path)[:16]
