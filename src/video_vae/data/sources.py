"""Find out which files a config names: folders to scan, tables of clips, single files, fetched packages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from video_vae.config.types import address_scheme
from video_vae.data.content import Reason
from video_vae.data.images import UNREAD_SUFFIXES
from video_vae.data.table import read_csv_rows
from video_vae.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.errors import UserError
from video_vae.files import absence, spellings, walk
from video_vae.progress import progress

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".tsv"})
OTHER_MEDIA_SUFFIXES = frozenset(
    {".aac", ".cr2", ".dng", ".flac", ".m4a", ".mp3", ".nef", ".ogg", ".opus", ".psd", ".rm", ".rmvb", ".svg", ".wav"}
)
"""Sound, drawings, raw photographs: media, but nothing to train on."""
_NAMED_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | OTHER_MEDIA_SUFFIXES | set(UNREAD_SUFFIXES)


MAX_FRAMES = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file, or a part of one, that may become a clip."""

    path: str
    listed: bool = False
    """Named by a table (which wins over a mere find in a folder)."""
    start_frame: int | None = None
    num_frames: int | None = None
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


def collect(
    sources: Sequence[str],
    packages: Sequence[str] = (),
    packages_dir: str | Path = "resources",
    root: str | Path | None = None,
) -> Found:
    """List the candidates of all sources, and of the packages that no table refers to, in a fixed order.

    Files outside of `root`, links followed, are rejected; without one, those that a table's row reaches by `..`.

    Raises:
        UserError: if there is no source, one does not exist or is an address, or a table cannot be read.
    """
    if not sources and not packages:
        raise UserError("data.sources is empty; name folders with clips, files, or CSV tables with a `path` column")
    found = Found(root=None if root is None else Path(root).resolve())
    for source in sources:
        _add_source(found, source, Path(packages_dir))
    for name in packages:
        folder = Path(packages_dir) / name
        if not folder.is_dir():
            raise UserError(f"package {name} is not in {packages_dir}; run `video-vae fetch CONFIG {name}`")
        inside = set(spellings(folder))
        listed = (place for item in found.candidates if item.listed for place in spellings(item.path))
        if not any(inside & set(place.parents) for place in listed):
            _scan_folder(found, folder)
    return found


def _add_source(found: Found, source: str, packages_dir: Path) -> None:
    if address_scheme(source):
        raise UserError(f"data.sources: {source} is an address; download the clips and name the folder they are in")
    path = Path(source).expanduser()
    if path.is_dir():
        _scan_folder(found, path)
    elif lost := absence(path):
        raise UserError(f"data.sources: {source} {lost}; correct the path")
    elif path.suffix.lower() in TABLE_SUFFIXES:
        _read_rows(found, path, packages_dir)
    else:
        _add_file(found, Candidate(path=str(path), listed=True))


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
        if Path(name).name.startswith(".") or suffix not in _NAMED_SUFFIXES:
            found.skipped += 1
        else:
            _add_file(found, Candidate(path=name))


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
    return Path(os.path.realpath(path)).is_relative_to(root)


def printable(path: str) -> str:
    r"""Write bytes of a path that are not UTF-8 as escapes (`\xe9`)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _read_rows(found: Found, table: Path, packages_dir: Path) -> None:
    rows = _parquet_rows(table) if table.suffix.lower() == ".parquet" else read_csv_rows(table)[1]
    header = list(rows[0]) if rows else []
    if rows and "path" not in header:
        near = difflib.get_close_matches("path", header, n=1, cutoff=0.3)
        hint = f"; is it {near[0]!r}?" if near else ""
        raise UserError(f"{table} has no column `path` (it has {', '.join(header)}){hint} Rename that column to `path`")
    for number, row in enumerate(rows, 2):
        where = f"{table}, row {number}"
        values = {key: value.strip() for key, value in row.items()}
        if address_scheme(values["path"]):
            raise UserError(f"{where}: {values['path']} is an address; download the clips and name local paths")
        if values.get("split", "").lower() not in ("", "train", "test"):
            raise UserError(f"{where}: split is {values['split']!r}; use train or test, or leave it empty")
        path = _resolve(row["path"], table, packages_dir)
        try:
            if found.root is None and _leaves(values["path"]):
                detail = f"{where}: leaves the table's folder; give the full path, or set data.root to a folder above"
                found.rejected.append(Rejected(path=values["path"], reason="outside", detail=detail))
            else:
                _add_file(found, _candidate(path, values))
        except ValueError as error:
            found.rejected.append(Rejected(path=path, reason="unreadable", detail=f"{where}: {error}"))


def _leaves(path: str) -> bool:
    return Path(os.path.normpath(path)).parts[:1] == ("..",)


def _candidate(path: str, values: Mapping[str, str]) -> Candidate:
    """Build the candidate of a row; without `start_frame`, `num_frames` is what some tool measured: not a wish."""
    if not path:
        raise ValueError("no path")
    start = _frames(values, "start_frame")
    return Candidate(
        path=path,
        listed=True,
        start_frame=start,
        num_frames=None if start is None else _frames(values, "num_frames"),
        clip_id=values.get("clip_id", ""),
        text=values.get("text", ""),
        split=values.get("split", "").lower(),
    )


def _frames(values: Mapping[str, str], column: str) -> int | None:
    value = values.get(column, "")
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < MAX_FRAMES or number != int(number):
        raise ValueError(f"{column} is {value!r}, not a number of frames")
    return int(number)


def _resolve(given: str, table: Path, packages_dir: Path) -> str:
    """Find the file of a row: beside the table, else from the working folder, else among the packages."""
    for text in (given, given.strip()):
        path = Path(os.path.expanduser(text))  # noqa: PTH111 (an unknown user is left as written)
        places = (path,) if path.is_absolute() else (table.parent / path, path, packages_dir / path)
        for place in places:
            if text and _is_file(place):
                return str(place)
    return os.path.expanduser(given.strip())  # noqa: PTH111


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _parquet_rows(table: Path) -> list[dict[str, str]]:
    import pandas

    try:
        frame = pandas.read_parquet(table)
    except (OSError, ValueError) as error:
        raise UserError(f"table {table} is not a parquet file: {' '.join(str(error).split())}") from None
    texts = frame.astype(object).where(frame.notna(), "")
    return [{str(name): str(value) for name, value in row.items()} for row in texts.to_dict("records")]


def rejections(rows: Sequence[Rejected]) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of rejected.csv in a fixed order."""
    for row in sorted(rows, key=lambda item: (item.path, item.reason, item.detail)):
        yield row.path, row.reason, row.detail
