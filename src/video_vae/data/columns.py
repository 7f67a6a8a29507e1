"""Tell what the columns of a list mean: by `data.columns`, else by the names that lists usually give them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_vae.config import Columns
from video_vae.data.column_names import USUAL, bound, near, normal, sounds_like_part
from video_vae.data.places import is_address
from video_vae.data.rows import Rows
from video_vae.data.spans import as_text, nested, parse_seconds, parse_spans
from video_vae.errors import UserError

log = logging.getLogger(__name__)

PLAIN = ("path", "folder", "text", "clip_id", "split", "fps")
"""Roles of columns that do not name a part of a file."""
SAMPLE = 200
"""Values looked at to tell what a column holds."""
Found = dict[str, tuple[str, float]]
"""Column of each role and the unit of its numbers, in seconds or frames."""


@dataclass(kw_only=True)
class Meaning:
    """The column of each role that a list has."""

    columns: dict[str, str] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    """Unit of the bounds, in seconds or frames, by role."""
    inclusive: bool = False
    """The end frame is the last of the part, not the one behind it."""
    left_out: list[str] = field(default_factory=list)
    """Columns that name parts of the files in a second way."""
    addresses: str = ""
    """Column that says where the files can be downloaded."""

    def value(self, values: Mapping[str, Any], role: str) -> Any:
        """Return a row's cell of a role; None where the list has none."""
        return values.get(self.columns.get(role, ""))

    def text(self, values: Mapping[str, Any], role: str) -> str:
        """Return a row's cell of a role as text; empty where the list has none."""
        return as_text(self.value(values, role))


def understand(table: Path, rows: Rows, given: Columns) -> Meaning | None:
    """Tell what the columns of a list mean; None where none of them can hold the files.

    A column that is skipped although its name is near to a known one is said once.

    Raises:
        UserError: if a column seems to name parts of the files and is not understood.
    """
    reader = _Reader(rows, given)
    meaning = Meaning()
    for role in PLAIN:
        name = reader.column(role, taken=meaning.columns)
        if name:
            meaning.columns[role] = name
    if "path" not in meaning.columns:
        return None
    meaning.addresses = reader.addresses()
    _find_parts(reader, meaning)
    _refuse_unknown_part(table, reader, meaning)
    _say_ignored(table, reader, meaning)
    return meaning


class _Reader:
    """The columns of a list, what `data.columns` says of them, and the first values of each."""

    def __init__(self, rows: Rows, given: Columns) -> None:
        self.columns = rows.columns
        self.given: dict[str, str | None] = given.model_dump()
        self._rows = rows

    def named(self, role: str) -> str:
        """Return the column that `data.columns` names for a role, if the list has it."""
        name = self.given[role]
        return name if name and name in self.columns else ""

    def free(self, role: str) -> bool:
        """Tell whether the usual names of a role count: not where `data.columns` has an empty one."""
        return self.given[role] != ""

    def column(self, role: str, *, taken: Mapping[str, str], fits: Callable[[Any], object] | None = None) -> str:
        """Find the column of a role: the one named, else that with the most usual name; empty where there is none."""
        if self.named(role) or not self.free(role):
            return self.named(role)
        for alias in USUAL[role]:
            for name in self.columns:
                known = normal(name) == alias and name not in taken.values()
                if known and (alias == "path" or self.holds(name, fits or _check(role))):
                    return name
        return ""

    def sample(self, column: str) -> list[Any]:
        """Return the first values of a column that are not empty."""
        cells = (row.values.get(column) for row in self._rows.rows)
        return list(itertools.islice((cell for cell in cells if _filled(cell)), SAMPLE))

    def holds(self, column: str, fits: Callable[[Any], object]) -> bool:
        """Tell whether a column is empty, or one of its first values fits."""
        sample = self.sample(column)
        return not sample or any(map(fits, sample))

    def addresses(self) -> str:
        """Return the first column that holds addresses; empty where none does."""
        return next((name for name in self.columns if any(map(_is_address, self.sample(name)))), "")


def _is_address(cell: Any) -> bool:
    return isinstance(cell, str) and is_address(cell)


def _filled(cell: Any) -> bool:
    return isinstance(cell, Mapping | list) or hasattr(cell, "tolist") or as_text(cell) != ""


def _check(role: str) -> Callable[[Any], object]:
    """Return what tells whether a value can be one of a role."""
    if role == "path":
        return lambda cell: isinstance(cell, int) or (_is_named(cell) and not _is_address(cell))
    return lambda cell: True


def _is_named(cell: Any) -> bool:
    """Tell whether a cell is a name or holds one: a text, a list of texts, an object with a path."""
    if isinstance(cell, Mapping):
        return isinstance(cell.get("path"), str)
    if isinstance(cell, list) or hasattr(cell, "tolist"):
        return all(isinstance(item, str) for item in cell)
    return isinstance(cell, str)


def parses(parse: Callable[..., object], **options: Any) -> Callable[[Any], bool]:
    """Turn a parser that raises ValueError into a test."""

    def fits(cell: Any) -> bool:
        """Tell whether a cell can be parsed."""
        with suppress(ValueError):
            parse(cell, "", **options)
            return True
        return False

    return fits


def _find_parts(reader: _Reader, meaning: Meaning) -> None:
    """Choose the columns that name parts of the files: of several kinds the first, since seconds outlive a new rate."""
    kinds = [_seconds(reader), _spans(reader, "timestamp"), _frames(reader), _spans(reader, "frame_range")]
    held = [kind for kind in kinds if kind]
    given = {role for role in reader.given if reader.named(role)}
    held.sort(key=lambda kind: not any(reader.named(role) for role in kind))
    for role, (column, scale) in held[0].items() if held else ():
        meaning.columns[role], meaning.scales[role] = column, scale
        meaning.inclusive |= role not in given and (kind := bound(column)) is not None and kind.inclusive
    meaning.left_out = [column for kind in held[1:] for column, _ in kind.values()]


def _seconds(reader: _Reader) -> Found:
    found = _bounds(reader, ("start", "end"), parses(parse_seconds))
    if "start" in found and "end" not in found:
        column = reader.column("duration", taken={}, fits=parses(parse_seconds))
        found |= {"duration": (column, 1.0)} if column else {}
    return found


def _frames(reader: _Reader) -> Found:
    found = _bounds(reader, ("start_frame", "end_frame"), lambda cell: True)
    if "start_frame" in found and "end_frame" not in found:
        column = reader.column("num_frames", taken={})
        found |= {"num_frames": (column, 1.0)} if column else {}
    return found


def _spans(reader: _Reader, role: str) -> Found:
    fits = parses(parse_spans, in_frames=role == "frame_range")
    column = reader.column(role, taken={}, fits=fits)
    return {role: (column, 1.0)} if column else {}


def _bounds(reader: _Reader, roles: tuple[str, str], fits: Callable[[Any], object]) -> Found:
    found = {role: (reader.named(role), 1.0) for role in roles if reader.named(role)}
    bounds = {name: kind for name in reader.columns if (kind := bound(name)) is not None}
    present = {kind.word for kind in bounds.values()}
    for name, kind in bounds.items():
        free = kind.role in roles and kind.role not in found and reader.free(kind.role)
        if free and (not kind.partner or kind.partner in present) and reader.holds(name, fits):
            found[kind.role] = (name, kind.scale)
    return found


def _refuse_unknown_part(table: Path, reader: _Reader, meaning: Meaning) -> None:
    """Stop at a column that sounds as if it named parts of the files, where none is understood."""
    if meaning.scales or any(name is not None for role, name in reader.given.items() if role not in PLAIN):
        return
    times = (parses(parse_seconds), parses(parse_spans, in_frames=False), _lists_something)
    for name in reader.columns:
        unknown = name not in meaning.columns.values() and sounds_like_part(name)
        if unknown and any(fits(cell) for cell in reader.sample(name) for fits in times):
            raise UserError(
                f"table {table}: column `{name}` seems to name parts of the files and is not understood; say what it "
                f"is (data.columns: {{start: {name}}}, or end, start_frame, end_frame, timestamp), or that whole "
                'files are meant (data.columns: {start: ""})'
            )


def _lists_something(cell: Any) -> bool:
    return isinstance(nested(cell), list | tuple)


def _say_ignored(table: Path, reader: _Reader, meaning: Meaning) -> None:
    """Warn once of each column that is skipped although it is a known one or nearly so."""
    for name in meaning.left_out:
        log.warning("%s: column `%s` is ignored, another one names the parts of the files", table, name)
    for name in reader.columns:
        if name in meaning.columns.values() or name in meaning.left_out:
            continue
        role = near(name, [role for role, given in reader.given.items() if given is None])
        if role == "path" and normal(name) not in USUAL["path"] and not reader.holds(name, _check(role)):
            continue
        if role and (role not in meaning.columns or role == "path"):
            log.warning(
                "%s: column `%s` is ignored; if it is `%s`, set data.columns: {%s: %s}", table, name, role, role, name
            )
