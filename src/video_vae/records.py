"""The records that jobs leave, run.json or FILE.run.json: what a job read and wrote, with hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_vae.errors import UserError
from video_vae.files import lexical, walk
from video_vae.provenance import RECORD


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a record says of a file."""

    path: str
    """As recorded: absolute, or relative to the folder that the jobs ran in."""
    sha256: str
    """All 64 hexadecimal digits, or the first of them."""
    bytes: int | None = None
    mtime_ns: int | None = None
    wrote: bool = False
    """Whether the record's job wrote the file, or read it."""
    record: str
    """Path of the record."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of one job."""

    path: str
    """As recorded paths are: relative to the folder that the jobs ran in, where it lies below it."""
    values: Mapping[str, Any]

    def expected(self, side: str) -> Iterator[Expected]:
        """Yield the files that the job read (`inputs`) or wrote (`outputs`); a folder by the files in it."""
        for entry in self.values.get(side, {}).values():
            for path, values in _files(entry):
                known: dict[str, Any] = {name: values.get(name) for name in ("sha256", "bytes", "mtime_ns")}
                yield Expected(path=path, wrote=side == "outputs", record=self.path, **known)

    def paths(self, side: str) -> list[str]:
        """List the files and folders that the job read or wrote, and the files in the folders."""
        entries = list(self.values.get(side, {}).values())
        return [entry["path"] for entry in entries] + [path for entry in entries for path, _ in _files(entry)]

    def wrote_below(self, folder: Path, base: Path) -> bool:
        """Tell whether the job wrote something in a folder; `base` is where recorded paths are relative to.

        The record in a copy of a folder still names the files of the first one.
        """
        return any(lexical(base / path).is_relative_to(lexical(folder)) for path in self.paths("outputs"))


def _files(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "files" not in entry:
        yield entry["path"], entry
    for name, values in entry.get("files", {}).items():
        yield f"{entry['path']}/{name}", values


def read_record(file: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises:
        UserError: if it is not one.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not the record of a run ({error}); make its results again") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} is not the record of a run; make its results again")
    return values


def is_record(name: str) -> bool:
    """Tell whether a file's name is that of a record."""
    return name == RECORD or name.endswith(f".{RECORD}")


def records_below(folder: Path) -> Iterator[Record]:
    """Yield the records in a folder and in those below it, links followed; what is not one is skipped."""
    for parent, names in walk(folder):
        for file in sorted(Path(parent, name) for name in names if is_record(name)):
            try:
                values = read_record(file)
            except UserError:
                continue
            if "command" in values:
                yield Record(path=str(file), values=values)
