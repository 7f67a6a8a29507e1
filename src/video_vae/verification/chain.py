"""The records behind a result: which job wrote a file, from which files, and who wrote those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from video_vae.data.probed import PROBED, read_probed
from video_vae.data.table import read_csv_rows
from video_vae.files import lexical
from video_vae.provenance import RECORD
from video_vae.records import Expected, Record, read_record

MANIFEST = "manifest"


class Chain:
    """Records found from the results backwards, each read once.

    Args:
        base: the folder that the jobs ran in, which recorded paths are relative to.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self._makers: dict[Path, Record] = {}
        self._seen: set[Path] = set()

    def at(self, path: str | Path) -> Path:
        """Find a recorded path on this machine."""
        return lexical(self.base / path)

    def maker(self, path: str | Path) -> Record | None:
        """Return the record of the job that wrote a file or folder, or None where no record says so."""
        place = self.at(path)
        # A record lies beside what it describes, in it, or, for a model's folder, one above.
        for folder in (place, place.parent, place.parent.parent):
            self._read(folder)
        return self._makers.get(place)

    def _read(self, folder: Path) -> None:
        if folder in self._seen or not folder.is_dir():
            return
        self._seen.add(folder)
        for file in sorted({*folder.glob(RECORD), *folder.glob(f"*.{RECORD}")}):
            record = Record(path=self._named(file), values=read_record(file))
            for path in record.paths("outputs"):
                self._makers[self.at(path)] = record

    def _named(self, file: Path) -> str:
        return str(file.relative_to(self.base)) if file.is_relative_to(self.base) else str(file)

    def behind(self, targets: Iterable[str]) -> list[Record]:
        """List the records of all jobs that some files go back to, the last job first."""
        found: dict[str, Record] = {}
        waiting = list(targets)
        for path in waiting:
            record = self.maker(path)
            if record is not None and record.path not in found:
                found[record.path] = record
                waiting += record.paths("inputs")
        return list(found.values())

    def clips(self, record: Record) -> Iterator[Expected]:
        """Yield the files that a manifest lists, by the hashes it gives them."""
        if record.values.get("command") != MANIFEST:
            return
        table = self.at(record.values["outputs"][MANIFEST]["path"])
        if not table.is_file():  # said already, as an output that is missing
            return
        known = read_probed(table.parent / PROBED)
        for path, source in {row["path"]: row["source_id"] for row in read_csv_rows(table)[1]}.items():
            size, changed, _ = known[path]["stamp"] if path in known else (None, None, None)
            yield Expected(path=path, sha256=source, bytes=size, mtime_ns=changed, record=record.path)
