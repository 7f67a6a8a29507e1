"""Tables of clips: what manifest.csv, train.csv and test.csv hold. Imports nothing heavy."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.tar_members import member_of

Kind = Literal["video", "image"]
Reader = Literal["pyav", "decord", "pillow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One row: a whole video, a segment of one, or an image. The fields are the columns, in their order."""

    clip_id: str
    """Unique name, safe as a filename."""
    path: str
    """Path of the file, relative to the working folder or absolute."""
    kind: Kind
    """`video` or `image`."""
    source_id: str
    """First 16 hexadecimal digits of the sha256 of the file."""
    start_frame: int
    """First frame of the clip in the file, from 0."""
    num_frames: int
    """Number of source frames of the clip; 1 for an image."""
    height: int
    """Height as shown (rotation applied), in pixels."""
    width: int
    """Width as shown (rotation applied), in pixels."""
    fps: float | None
    """Frames per second; None (an empty cell) for an image."""
    aspect_ratio: float
    """Height / width (Open-Sora's convention)."""
    resolution: int
    """Height x width, in pixels (Open-Sora's convention)."""
    text: str
    """Caption, or empty."""
    split: str
    """`train`, `test` or empty where no split was made yet."""
    handling: str = ""
    """What is done so that the file is read as a player shows it: words of `pixels.Handling`, separated by spaces."""
    step: float | None = None
    """Source frames per frame that the model sees, by `data.fps` and `data.frame_interval`; None for an image."""
    seconds: float | None = None
    """How long the clip is shown, in seconds; None for an image, and in tables of earlier versions."""
    reader: Reader = "pyav"
    """What reads the file; `decord` only where it was found to give the same frames as PyAV."""
    offset: int | None = None
    """First byte of the file in its tar shard (`path` is `shard.tar::name`); None where it is a file of its own."""
    bytes: int | None = None
    """Length of the file in its tar shard, in bytes, likewise."""


_IN_SHARDS = ("offset", "bytes")
"""Columns that are written where any clip lies in a tar shard."""
COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Clip) if field.name not in _IN_SHARDS)
_OPTIONAL = frozenset({"handling", "step", "seconds", "reader"})
"""Columns that the tables of earlier versions lack."""
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
"""What a clip may be called: files are named after it."""
PANS_SHARD, PAN = "pans.tar", "pan-"
"""Where the clips lie that are made of photographs, and how their names begin."""
MAX = 10**12
_MEASURED = ("fps", "step", "seconds")
_INTEGERS = ("start_frame", "num_frames", "height", "width", "resolution")


def is_pan(path: str) -> bool:
    """Tell by its path whether a clip was made of a photograph (`data.pans`)."""
    inside = member_of(path)
    return inside is not None and inside[0].name == PANS_SHARD and inside[1].startswith(PAN)


def manifest_rows(table: Path) -> list[Clip] | None:
    """Read a CSV that a manifest wrote; None where it lacks some of its columns.

    Raises:
        UserError: if the file cannot be read, or a cell does not fit its column; names the row.
    """
    header, rows = read_csv_rows(table)
    if not set(COLUMNS) - _OPTIONAL <= set(header):
        return None
    return [_clip(row, f"{table}, row {number}") for number, row in enumerate(rows, 2)]


def read_text(path: Path) -> str:
    """Read a list's text (byte-order mark accepted, line ends as they are).

    Raises:
        UserError: if the file cannot be read or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(f"table {path}: {error.strerror}; give a CSV with a `path` column") from None
    except UnicodeDecodeError:
        raise UserError(f"table {path} is not UTF-8; save it as UTF-8 CSV") from None


def read_csv_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV as text: its column names and its rows (byte-order mark and Windows line ends accepted).

    Raises:
        UserError: if the file cannot be read, is not UTF-8, or has no header.
    """
    text = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=_delimiter(text.split("\n", 1)[0]))
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except csv.Error as error:
        hint = "; is a quotation mark missing?" if "field limit" in str(error) else ""
        raise UserError(f"table {path} is not a CSV: {error}{hint}") from None
    if not header:
        raise UserError(f"table {path} is empty; give a CSV with a `path` column")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"table {path} has two columns `{twice}`; leave one out")
    return header, rows


def _delimiter(header: str) -> str:
    """Guess what separates the columns: some spreadsheets write semicolons or tabs."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _clip(row: dict[str, str], where: str) -> Clip:
    values: dict[str, Any] = {name: row.get(name, "") for name in COLUMNS}
    try:
        for name in _INTEGERS:
            values[name] = int(row[name])
        for name in _IN_SHARDS:
            values[name] = int(row[name]) if row.get(name) else None
        for name in _MEASURED:
            values[name] = float(row[name]) if row.get(name) else None
        values["aspect_ratio"] = float(row["aspect_ratio"])
    except ValueError as error:
        raise UserError(f"{where}: {error}; make the table again with `video-vae manifest`") from None
    if row["kind"] not in ("video", "image"):
        raise UserError(f"{where}: kind is {row['kind']!r}, not video or image")
    values["reader"] = values["reader"] or ("pyav" if row["kind"] == "video" else "pillow")
    if values["reader"] not in get_args(Reader):
        raise UserError(f"{where}: reader is {values['reader']!r}, not one of {', '.join(get_args(Reader))}")
    problem = _impossible(values)
    if problem:
        raise UserError(f"{where}: {problem}; make the table again with `video-vae manifest`")
    return Clip(**{**values, "kind": cast(Kind, row["kind"])})


def _impossible(values: dict[str, Any]) -> str:
    """Say what no manifest would hold."""
    if not SAFE_ID.fullmatch(values["clip_id"]):
        return f"clip_id is {values['clip_id']!r}, not a name for files"
    for name in _INTEGERS:
        if not (0 if name == "start_frame" else 1) <= values[name] < MAX:
            return f"{name} is {values[name]}, which no file has"
    for name in _IN_SHARDS:
        if not 0 <= (values[name] or 0) < MAX:
            return f"{name} is {values[name]}, which no shard has"
    measured = {name: 1.0 if values[name] is None else values[name] for name in _MEASURED}
    rates = {**measured, "aspect_ratio": values["aspect_ratio"]}
    wrong = next((name for name, value in rates.items() if not (math.isfinite(value) and value > 0)), "")
    return f"{wrong} is {rates[wrong]}" if wrong else ""


def write_table(path: str | Path, clips: Iterable[Clip]) -> None:
    """Write a table of clips, whole or not at all; the same clips give the same bytes."""
    rows = list(clips)
    columns = columns_of(rows)
    write_rows(path, columns, ([_cell(name, getattr(clip, name)) for name in columns] for clip in rows))


def columns_of(clips: Iterable[Clip]) -> tuple[str, ...]:
    """List the columns of a table of these clips."""
    return (*COLUMNS, *_IN_SHARDS) if any(clip.offset is not None for clip in clips) else COLUMNS


def _cell(name: str, value: object) -> str:
    """Write a value: lengths to the microsecond, other numbers to six digits."""
    if value is None:
        return ""
    if name == "seconds":
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_rows(path: str | Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a CSV (UTF-8, Unix line ends), whole or not at all."""
    with atomic_path(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def beside(index: Path, name: str) -> Path:
    """Name a file that belongs to an index: `failed.csv` beside index.csv, `shard_0.failed.csv` beside shard_0.csv."""
    return index.with_name(name if index.stem == "index" else f"{index.stem}.{name}")
