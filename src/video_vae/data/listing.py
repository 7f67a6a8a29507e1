"""Turn a list of clips into candidates, or into reasons why its rows cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from video_vae.config import Columns
from video_vae.data.candidates import Candidate, Rejected
from video_vae.data.columns import Meaning, understand
from video_vae.data.places import (
    Places,
    is_address,
    is_media_name,
    is_windows_path,
    leaves_folder,
    path_in_line,
    unfound,
)
from video_vae.data.rates import FASTEST, SLOWEST
from video_vae.data.rows import CSV_SUFFIXES, Row, Rows, plain_lines, read_rows
from video_vae.data.spans import Span, as_text, checked, nested, parse_frames, parse_seconds, parse_spans
from video_vae.errors import UserError

log = logging.getLogger(__name__)

_PROGRAM_LINES = ("ffconcat", "inpoint ", "outpoint ", "duration ")
"""How lines of FFmpeg's lists begin that hold no path."""
Item = Candidate | Rejected


@dataclass(frozen=True, kw_only=True)
class ClipList:
    """A list of clips: its file, where its paths are looked for, and whether `data.root` bounds them."""

    file: Path
    places: Places
    rooted: bool

    def items(self, columns: Columns) -> tuple[list[Item], set[str]]:
        """Read the list; also return its columns that were understood.

        Raises:
            UserError: if it cannot be read, has no column of files, or names an address or a split that is none.
        """
        rows = read_rows(self.file)
        meaning = Meaning() if rows.lines else understand(self.file, rows, columns)
        if meaning is None and self._is_headless(rows):
            rows, meaning = plain_lines(self.file), Meaning()
        if meaning is None and rows.rows:
            raise UserError(_no_files(self.file, rows))
        if rows.lines:
            return list(self._of_lines(rows)), set()
        if meaning is None:
            return [], set()
        return [item for row in rows.rows for item in self._of_row(row, meaning)], set(meaning.columns.values())

    def _is_headless(self, rows: Rows) -> bool:
        """Tell whether a clip stands where the names of the columns should."""
        return self.file.suffix.lower() in CSV_SUFFIXES and any(
            is_media_name(name) or self.places.find(name) for name in rows.columns if name
        )

    def _of_lines(self, rows: Rows) -> Iterator[Item]:
        rests = []
        for place, line in rows.lines:
            if line.lstrip().startswith(_PROGRAM_LINES) and self.places.find(line) is None:
                rests.append((place, line.strip()))
                continue
            path, rest = path_in_line(line, self.places)
            rests += [(place, rest)] if rest else []
            yield self._item(path, f"{self.file}, {place}", Candidate(path="", listed=True), "")
        if rests:
            log.warning(
                "%s has no names of columns: only its paths are taken, other text is ignored (%s: %s); "
                "put names above it, such as path,start,end",
                *(self.file, *rests[0]),
            )

    def _of_row(self, row: Row, meaning: Meaning) -> Iterator[Item]:
        where, values = f"{self.file}, {row.place}", row.values
        split = meaning.text(values, "split").lower()
        if split not in ("", "train", "test"):
            raise UserError(
                f"{where}: split is {meaning.text(values, 'split')!r}; use train or test, or leave it empty"
            )
        try:
            paths = list(_paths(meaning.value(values, "path"), meaning.text(values, "folder")))
            parts = list(_parts(values, meaning))
            texts = _texts(meaning.value(values, "text"), len(parts))
            known = Candidate(
                path="",
                listed=True,
                fps=_rate(meaning.text(values, "fps")),
                clip_id=meaning.text(values, "clip_id"),
                split=split,
            )
        except ValueError as error:
            path = meaning.text(values, "path")
            yield Rejected(path=unfound(path), reason="unreadable", detail=f"{where}: {error}")
            return
        for path in paths:
            item = self._item(path, where, known, meaning.addresses)
            if isinstance(item, Rejected):
                yield item
            else:
                yield from (replace(item, part=part, text=text) for part, text in zip(parts, texts, strict=True))

    def _item(self, given: str, where: str, known: Candidate, addresses: str) -> Item:
        """Find the file of a row, or say why there is none; `addresses` is the column that it may be fetched by."""
        plain = given.strip()
        if is_address(plain):
            raise UserError(f"{where}: {plain} is an address; download the clips and name local paths")
        if not self.rooted and leaves_folder(given):
            detail = f"{where}: leaves the table's folder; give the full path, or set data.root to a folder above"
            return Rejected(path=plain, reason="outside", detail=detail)
        path = self.places.find(given)
        detail = ""
        if path is None and is_windows_path(given):
            detail = "a path of another computer; copy the clips here and name them by local paths"
        elif path is None and not is_media_name(unfound(given)):
            fetch = f"; download it by column `{addresses}` and give it this name" if addresses else ""
            detail = f"no such file, with the ending of a video or without, nor a folder of frames{fetch}"
        if detail:
            return Rejected(path=unfound(given), reason="missing", detail=f"{where}: {detail}")
        return replace(known, path=unfound(given) if path is None else path)


def _paths(cell: Any, folder: str) -> Iterator[str]:
    """Yield the paths of a cell: a text, several, or an object that holds one."""
    if isinstance(cell, Mapping):
        if cell.get("bytes") is not None:
            raise ValueError("holds the bytes of a file instead of its path; write the files out and list them")
        cell = cell.get("path")
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        for item in cell:
            yield from _paths(item, folder)
        return
    text = cell if isinstance(cell, str) else as_text(cell)
    if not text.strip():
        raise ValueError("no path")
    yield f"{folder}/{text}" if folder else text


def _parts(values: Mapping[str, Any], meaning: Meaning) -> Iterator[Span | None]:
    """Yield the parts of the file that a row names; None is all of it."""
    for role in ("timestamp", "frame_range"):
        if role in meaning.columns:
            column = meaning.columns[role]
            spans = parse_spans(meaning.value(values, role), column, in_frames=role == "frame_range")
            yield from spans or (None,)
            return
    if "start" in meaning.scales or "end" in meaning.scales:
        yield _seconds(values, meaning)
    elif "start_frame" in meaning.scales or "end_frame" in meaning.scales:
        yield _frames(values, meaning)
    else:
        yield None


def _seconds(values: Mapping[str, Any], meaning: Meaning) -> Span | None:
    """Make a part of bounds in time."""
    times = {
        role: parse_seconds(meaning.value(values, role), meaning.columns[role])
        for role in ("start", "end", "duration")
        if role in meaning.columns
    }
    scaled = {role: time * meaning.scales[role] for role, time in times.items() if time is not None}
    start, end = scaled.get("start"), scaled.get("end")
    if start is None and end is None:
        return None
    if end is None and "duration" in scaled:
        end = (start or 0.0) + scaled["duration"]
    return checked(start, end, meaning.columns.get("end", meaning.columns.get("duration", "")), in_frames=False)


def _frames(values: Mapping[str, Any], meaning: Meaning) -> Span | None:
    """Make a part of frame numbers; without a start, `num_frames` is what some tool measured: not a wish."""
    start, end, count = (
        parse_frames(meaning.text(values, role), meaning.columns.get(role, role))
        if role != "num_frames" or meaning.text(values, "start_frame")
        else None
        for role in ("start_frame", "end_frame", "num_frames")
    )
    if start is None and end is None:
        return None
    if end is not None:
        end += meaning.inclusive
        return checked(start, end, meaning.columns["end_frame"], in_frames=True)
    return Span(start=start or 0, end=None if count is None else (start or 0) + count, in_frames=True)


def _texts(cell: Any, count: int) -> list[str]:
    """Give each part its caption: of a list one each, else the same to all."""
    listed = nested(cell) if count > 1 or not isinstance(cell, str) else cell
    if isinstance(listed, list | tuple):
        texts = [as_text(item) for item in listed] or [""]
        return texts if len(texts) == count else texts[:1] * count
    return [as_text(cell)] * count


def _rate(text: str) -> float | None:
    """Parse a frame rate; None for what is none, since only folders of frames need one."""
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if SLOWEST <= rate < FASTEST else None


def _no_files(table: Path, rows: Rows) -> str:
    """Say that no column holds files, and which might."""
    columns = {name: [row.values.get(name) for row in rows.rows] for name in rows.columns}
    holding = next((name for name, cells in columns.items() if _mostly(cells, is_media_name)), None)
    addresses = next((name for name, cells in columns.items() if _mostly(cells, is_address)), None)
    cure = "name the one with the files by data.columns: {path: NAME}"
    if holding is not None and holding != addresses:
        cure = f"`{holding}` holds names of files: set data.columns: {{path: {holding}}}"
    elif addresses is not None:
        cure = f"`{addresses}` holds addresses: download the clips and name their files in a column `path`"
    return f"{table} has no column `path` (it has {', '.join(rows.columns)}); {cure}"


def _mostly(cells: list[Any], fits: Any) -> bool:
    texts = [as_text(cell) for cell in cells if isinstance(cell, str)]
    return bool(texts) and sum(bool(fits(text)) for text in texts) * 2 > len(texts)
