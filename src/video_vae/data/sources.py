"""Find out which files a config names: folders to scan, lists of clips, single files, fetched packages."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from video_vae.config import Columns
from video_vae.config.types import address_scheme
from video_vae.data.candidates import Candidate, Found, Rejected, printable
from video_vae.data.content import Reason
from video_vae.data.frame_folders import is_numbered
from video_vae.data.images import UNREAD_SUFFIXES
from video_vae.data.listing import ClipList
from video_vae.data.places import Places
from video_vae.data.rows import OTHER_SUFFIXES, TABLE_SUFFIXES
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.data.webdataset import is_shard, shard_items
from video_vae.errors import UserError
from video_vae.files import absence, spellings, walk
from video_vae.progress import progress
from video_vae.tar_members import COMPRESSED, file_of, member_of, packer_of

log = logging.getLogger(__name__)

OTHER_MEDIA_SUFFIXES = frozenset(
    {".aac", ".cr2", ".dng", ".flac", ".m4a", ".mp3", ".nef", ".ogg", ".opus", ".psd", ".svg", ".wav"}
)
"""Sound, drawings, raw photographs: media, but nothing to train on."""
_NAMED_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | OTHER_MEDIA_SUFFIXES | set(UNREAD_SUFFIXES)


def collect(
    sources: Sequence[str],
    packages: Sequence[str] = (),
    packages_dir: str | Path = "resources",
    root: str | Path | None = None,
    columns: Columns | None = None,
) -> Found:
    """List the candidates of all sources, and of the packages that no table refers to, in a fixed order.

    Files outside of `root`, links followed, are rejected; without one, those that a table's row reaches by `..`.
    `columns` names columns of the tables.

    Raises:
        UserError: if there is no source, one does not exist or is an address, or a table cannot be read.
    """
    if not sources and not packages:
        raise UserError("data.sources is empty; name folders with clips, files, or lists of clips")
    found = Found(root=None if root is None else Path(root).resolve())
    read = [_add_source(found, source, Path(packages_dir), columns or Columns()) for source in sources]
    _check_columns(columns or Columns(), [names for names in read if names is not None])
    for name in packages:
        folder = Path(packages_dir) / name
        if not folder.is_dir():
            raise UserError(f"package {name} is not in {packages_dir}; run `video-vae fetch CONFIG {name}`")
        inside = set(spellings(folder))
        listed = (place for item in found.candidates if item.listed for place in spellings(item.path))
        if not any(inside & set(place.parents) for place in listed):
            _scan_folder(found, folder)
    return found


def _add_source(found: Found, source: str, packages_dir: Path, columns: Columns) -> set[str] | None:
    """Add what a source holds; return the columns that a list was read by."""
    if address_scheme(source):
        raise UserError(f"data.sources: {source} is an address; download the clips and name the folder they are in")
    path = Path(source).expanduser()
    if path.is_dir() and is_numbered(path):
        log.info("%s holds numbered frames: one video; for single images name the folder above it", path)
        _add_file(found, Candidate(path=str(path), listed=True))
    elif path.is_dir():
        _scan_folder(found, path)
    elif lost := absence(path):
        raise UserError(f"data.sources: {source} {lost}; correct the path")
    elif is_shard(path):
        _add_shard(found, path, listed=True)
    elif COMPRESSED.search(path.name):
        cure = f"; {packer_of(path) or 'gunzip'} it and name the .tar file"
        raise UserError(f"data.sources: {source} is a compressed shard, which allows no random access{cure}")
    elif path.suffix.lower() in TABLE_SUFFIXES and member_of(path) is None:
        return _read_list(found, path, packages_dir, columns)
    elif path.suffix.lower() in OTHER_SUFFIXES:
        raise UserError(
            f"data.sources: {source} is not a list that can be read; unpack it, or save it as CSV, TSV, parquet, JSON "
            "or JSON lines with a column `path`, or as a .txt file with a path on each line"
        )
    else:
        _add_file(found, Candidate(path=str(path), listed=True))
    return None


def _read_list(found: Found, table: Path, packages_dir: Path, columns: Columns) -> set[str]:
    inner = (table.parent / "videos", table.parent / "video")  # where data sets with a list beside them have the files
    folders = (table.parent, Path(), *(() if found.root is None else (found.root,)), packages_dir, *inner)
    items, names = ClipList(file=table, places=Places(folders=folders), rooted=found.root is not None).items(columns)
    for item in items:
        if isinstance(item, Rejected):
            found.rejected.append(item)
        else:
            _add_file(found, item)
    return names


def _check_columns(columns: Columns, read: Sequence[set[str]]) -> None:
    """Refuse a name under `data.columns` that none of the lists has."""
    for role, name in columns.model_dump().items():
        if read and name and not any(name in names for names in read):
            raise UserError(f"data.columns.{role} is {name!r}, a column that no table in data.sources has; correct it")


def _scan_folder(found: Found, folder: Path) -> None:
    def unreadable(error: OSError) -> None:
        """Note a folder that cannot be listed."""
        found.rejected.append(
            Rejected(path=printable(str(error.filename)), reason="unreadable", detail=f"folder: {error.strerror}")
        )

    names: list[str] = []
    for parent, files in progress(walk(folder, unreadable), desc=f"scan {folder}", unit="folders", brief=True):
        names += [os.path.join(parent, name) for name in files]  # noqa: PTH118 (raw names)
    for name in sorted(names):
        suffix = Path(name).suffix.lower()
        if Path(name).name.startswith(".") or (suffix not in _NAMED_SUFFIXES and not _is_archive(name)):
            found.skipped += 1
        elif _is_archive(name):
            _add_shard(found, Path(name), listed=False)
        else:
            _add_file(found, Candidate(path=name))


def _is_archive(name: str) -> bool:
    return is_shard(Path(name)) or COMPRESSED.search(name) is not None


def _add_shard(found: Found, shard: Path, *, listed: bool) -> None:
    """Add what a tar shard holds, or why it cannot be used; a compressed one cannot."""
    if printable(str(shard)) != str(shard):
        _add_file(found, Candidate(path=str(shard)))  # refused as any such name
        return
    for item in shard_items(shard, listed=listed):
        if item is None:
            found.skipped += 1
        elif isinstance(item, Rejected):
            found.rejected.append(replace(item, path=printable(item.path)))
        else:
            _add_file(found, item)


def _add_file(found: Found, candidate: Candidate) -> None:
    """Accept a candidate, unless its name alone rules it out."""
    reason: Reason = "unreadable"
    detail = ""
    if "\0" in candidate.path:
        detail = "a path with a NUL character"
    elif found.root is not None and not _within(candidate.path, found.root):
        reason, detail = "outside", f"not in data.root, {found.root}; move the file, or set data.root to a wider folder"
    elif printable(candidate.path) != candidate.path:
        detail = "the file name is not UTF-8; rename the file"
    elif Path(candidate.path).suffix.lower() in OTHER_MEDIA_SUFFIXES:
        detail = "not a video or image"
    elif Path(candidate.path).suffix.lower() in UNREAD_SUFFIXES:
        detail = UNREAD_SUFFIXES[Path(candidate.path).suffix.lower()]
    if detail:
        found.rejected.append(Rejected(path=printable(candidate.path), reason=reason, detail=detail))
    else:
        found.candidates.append(candidate)


def _within(path: str, root: Path) -> bool:
    return Path(os.path.realpath(file_of(path))).is_relative_to(root)
