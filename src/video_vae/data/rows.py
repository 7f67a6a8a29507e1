"""Read lists of clips as people have them: CSV, TSV, parquet, JSON, JSON lines, and plain lists of paths.

Only the form of a list is understood here, not what its columns mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_vae.data.table import read_csv_rows, read_text
from video_vae.errors import UserError

PLAIN_SUFFIXES = frozenset({".list", ".lst", ".txt"})
JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
TABLE_SUFFIXES = CSV_SUFFIXES | {".parquet"} | JSON_SUFFIXES | PLAIN_SUFFIXES
"""How names of files end that list clips."""
OTHER_SUFFIXES = frozenset({".arrow", ".db", ".feather", ".gz", ".h5", ".ods", ".pkl", ".sqlite", ".xls"})
OTHER_SUFFIXES |= frozenset({".bz2", ".m3u", ".m3u8", ".xlsx", ".xml", ".xz", ".yaml", ".yml", ".zip", ".zst"})
"""How names of lists and archives end that are not read."""
KEY = "(key)"
"""Column of the names under which a JSON object holds its rows."""
_JSON_CURE = "give a list of objects, one for each clip, or CSV"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry of a list: its values by column, and its place for messages (`row 2`, `line 7`)."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A list: its columns in the order of the file and its rows; or bare lines, each with a path."""

    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Place and text of each line, where the list has no columns."""


def read_rows(path: Path) -> Rows:
    """Read a list by the ending of its name.

    Raises:
        UserError: if it cannot be read, or has a form that is not understood.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _listed(path, list(enumerate(_parquet(path), 1)), "row")
    if suffix in JSON_SUFFIXES:
        return _json(path, by_line=suffix != ".json")
    if suffix in PLAIN_SUFFIXES:
        return plain_lines(path)
    return csv_rows(path)


def csv_rows(path: Path) -> Rows:
    """Read a list whose first line names its columns.

    Raises:
        UserError: if it cannot be read.
    """
    header, rows = read_csv_rows(path)
    return Rows(columns=tuple(header), rows=[Row(place=f"row {n}", values=row) for n, row in enumerate(rows, 2)])


def plain_lines(path: Path) -> Rows:
    """Read a list of paths, one on each line; empty lines and comments (`#`) are skipped.

    Raises:
        UserError: if it cannot be read.
    """
    lines = [(place, line) for place, line in _numbered(read_text(path)) if not line.lstrip().startswith("#")]
    return Rows(lines=[(f"line {number}", line) for number, line in lines])


def _numbered(text: str) -> list[tuple[int, str]]:
    """Number the lines of a text from 1, without the empty ones."""
    return [(number, line) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"table {path} is not a parquet file: {' '.join(str(error).split())}") from None
    return [{str(name): value for name, value in row.items()} for row in frame.astype(object).to_dict("records")]


def _json(path: Path, *, by_line: bool) -> Rows:
    """Understand a JSON text whole or line by line; either is found under either ending."""
    text = read_text(path)
    lines = _numbered(text)
    if lines and (by_line or len(lines) > 1) and _is_entry(lines[0][1]):
        return _listed(path, [(number, _parse(path, line, number)) for number, line in lines], "line")
    found = _parse(path, text, 1)
    if isinstance(found, Mapping):
        found = _rows_of(path, found)
    if not isinstance(found, list):
        raise UserError(f"table {path} holds no list of clips; {_JSON_CURE}")
    return _listed(path, list(enumerate(found, 1)), "item")


def _is_entry(line: str) -> bool:
    """Tell whether a first line is an entry by itself."""
    try:
        return isinstance(json.loads(line), Mapping | str)
    except ValueError:
        return False


def _parse(path: Path, text: str, first: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {first + error.lineno - 1}, column {error.colno}"
        raise UserError(f"table {path} is not JSON: {where}: {error.msg}; write it again") from None
    except RecursionError:
        raise UserError(f"table {path} is nested too deep; {_JSON_CURE}") from None


def _listed(path: Path, items: Sequence[tuple[int, Any]], word: str) -> Rows:
    """Make rows of objects, or lines of texts."""
    if items and all(isinstance(item, str) for _, item in items):
        return Rows(lines=[(f"{word} {number}", item) for number, item in items])
    wrong = next((number for number, item in items if not isinstance(item, Mapping)), None)
    if wrong is not None:
        raise UserError(f"table {path}, {word} {wrong}: neither an object with columns nor a path; {_JSON_CURE}")
    rows = [Row(place=f"{word} {number}", values={str(name): item[name] for name in item}) for number, item in items]
    return Rows(columns=tuple(dict.fromkeys(name for row in rows for name in row.values)), rows=rows)


def _rows_of(path: Path, found: Mapping[str, Any]) -> list[Any]:
    """Find the rows that an object holds: in its only list, by column, or by name; else it is itself one row."""
    lists = {name: value for name, value in found.items() if isinstance(value, list) and value}
    objects = [name for name, value in lists.items() if all(isinstance(item, Mapping) for item in value)]
    if len(objects) > 1:
        raise UserError(f"table {path} holds several lists ({', '.join(objects)}); write the one with the clips alone")
    if objects:
        return list(found[objects[0]])
    if len(lists) == len(found) and len({len(value) for value in lists.values()}) == 1:
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    if found and all(isinstance(value, Mapping) for value in found.values()):
        return _named_rows(found)
    if found and not any(isinstance(value, Mapping) for value in found.values()) and all("." in name for name in found):
        return [{KEY: name, "text": value} for name, value in found.items()]
    return [found]


def _named_rows(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn an object of objects into rows: they are its columns if all have the same numbers for keys."""
    inner = [list(values) for values in found.values()]
    if inner[0] and all(keys == inner[0] for keys in inner) and all(key.isdecimal() for key in inner[0]):
        return [{column: values[key] for column, values in found.items()} for key in inner[0]]
    return [{KEY: name, **values} for name, values in found.items()]
