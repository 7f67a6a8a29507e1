"""Trace a result back to the data, settings, code and weights that made it, and list what no longer matches.

Every job leaves a record of what it read and wrote, with hashes. From RESULT (results/metrics.csv, or any other file
that a job wrote) the records lead back to the clips. All files on the way are hashed again, the settings of every job
are compared with the config of the newest one as its files are today, the sources of this package and the versions of
others with the installed ones. One line for each thing that differs; exit status 0 where nothing does, 1 otherwise.
Needs no torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.config import load_merged
from video_vae.config.runs import resolve
from video_vae.data.table import read_csv_rows
from video_vae.errors import UserError
from video_vae.files import lexical, spellings
from video_vae.metrics.collect_metrics import Entry, table_of
from video_vae.provenance import RECORD
from video_vae.records import Expected, Record, read_record
from video_vae.verification.chain import Chain
from video_vae.verification.hashing import file_differences
from video_vae.verification.settings import (
    Configured,
    code_differences,
    newest_config,
    package_differences,
    setting_differences,
)

DIFFERS_STATUS = 1
COLLECTED = "collect-metrics"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The records that numbers of one run go back to."""

    experiment: str
    """The run whose settings made them."""
    records: Sequence[Record]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument("result", type=Path, nargs="?", default=Path("results/metrics.csv"), help="file to trace back")
    row = "only what made this row of metrics.csv, and show the jobs on the way"
    parser.add_argument("--row", metavar="EXPERIMENT:STAGE", help=row)
    parser.add_argument(
        "--quick", action="store_true", help="do not read files of the recorded size and time of change"
    )
    parser.add_argument("--configfile", type=Path, nargs="+", metavar="YAML", help="settings of today [as recorded]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="files hashed at once [cores]")


def run(args: argparse.Namespace) -> None:
    """Print what differs, then a summary.

    Raises:
        SystemExit: with status 1 where anything differs.
    """
    base, named = _base(args.result)
    chain = Chain(base)
    origins, table = _origins(chain, named, args.row)
    records = list({record.path: record for origin in origins for record in origin.records}.values())
    if table is not None and args.row is None:
        records = [table, *records]
    elif args.row:
        _show(records)
    lines, files = file_differences(chain, _expected(chain, records), args.quick, args.workers)
    lines += _unrecorded(chain, [named], records)
    lines += _cells(chain, table, args.row) if table is not None else []
    lines += _settings(chain, origins, [*records, *([table] if table else [])], args.configfile)
    lines += [*code_differences(records), *package_differences(records)]
    sys.stdout.write("".join(f"{line}\n" for line in dict.fromkeys(lines)))
    found = f"differences: {len(set(lines))}" if lines else "all as recorded"
    sys.stdout.write(f"{args.result.name}: {len(records)} jobs, {files} files; {found}\n")
    if lines:
        raise SystemExit(DIFFERS_STATUS)


def _base(result: Path) -> tuple[Path, str]:
    """Find the folder that the jobs ran in, and the name that they know a result by.

    Links are taken for what they are called: `results` may lie on another disk than the folder that it belongs to.
    """
    records: list[Path] = []
    for place in spellings(result):
        for folder in (place, place.parent, place.parent.parent):
            for file in sorted({*folder.glob(RECORD), *folder.glob(f"*.{RECORD}")}):
                for path in Record(path="", values=read_record(file)).paths("outputs"):
                    base = _above(place, path)
                    if base is not None:
                        return base, path
                records.append(file)
    if not result.exists():
        raise UserError(f"{result}: no such file; give a result such as results/metrics.csv")
    if records:
        raise UserError(f"{result}: {records[0]} names it from another folder; go to where the jobs ran, name it there")
    raise UserError(f"{result}: no {RECORD} beside it says what made it; make it again with this version")


def _above(place: Path, recorded: str) -> Path | None:
    """Return the folder in which a recorded path is a place; None where it is another file."""
    parts = Path(recorded).parts
    if not Path(recorded).is_absolute() and place.parts[-len(parts) :] == parts:
        return Path(*place.parts[: -len(parts)])
    here = lexical("")
    return here if (here / recorded).exists() and (here / recorded).samefile(place) else None


def _origins(chain: Chain, named: str, row: str | None) -> tuple[list[Origin], Record | None]:
    """Follow a result back, each row of a table of metrics on its own; return the table's record too."""
    behind = chain.behind([named])
    table = next((record for record in behind if record.values.get("command") == COLLECTED), None)
    if table is None:
        if row:
            raise UserError(f"--row: {named} is not a table of metrics; leave it out")
        parts = Path(named).parts
        return [Origin(experiment=parts[1] if len(parts) > 1 else "", records=behind)], None
    summaries: dict[str, list[str]] = {}
    for entry in _entries(table, row):
        summaries.setdefault(entry.experiment, []).append(str(entry.summary))
    origins = [Origin(experiment=name, records=chain.behind(paths)) for name, paths in summaries.items()]
    above = [record for record in behind if record.path != table.path and record.values.get("command") == "report"]
    return [*origins, *([Origin(experiment="", records=above)] if above and not row else [])], table


def _entries(table: Record, row: str | None) -> list[Entry]:
    entries = [Entry(name, stage, Path(summary)) for name, stage, summary in table.values["entries"]]
    chosen = [entry for entry in entries if row in (None, f"{entry.experiment}:{entry.stage}")]
    if not chosen:
        rows = ", ".join(f"{entry.experiment}:{entry.stage}" for entry in entries)
        raise UserError(f"--row {row}: there is no such row; there are {rows}")
    return chosen


def _show(records: Iterable[Record]) -> None:
    for record in records:
        values = record.values
        commit = (values.get("code", {}).get("commit") or "no commit")[:12]
        sys.stdout.write(f"{values.get('command', ''):<16} {values.get('start', '')}  {commit:<12}  {record.path}\n")


def _expected(chain: Chain, records: Iterable[Record]) -> Iterator[Expected]:
    for record in records:
        yield from record.expected("outputs")
        yield from record.expected("inputs")
        yield from chain.clips(record)


def _unrecorded(chain: Chain, targets: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Name the files below the results that no record accounts for."""
    results = chain.at(targets[0]).parent
    read = [path for record in records for path in record.paths("inputs")]
    return [
        f"{path}: no record says what made it; make it again"
        for path in dict.fromkeys([*targets, *read])
        if chain.at(path).is_relative_to(results) and chain.maker(path) is None and not path.endswith(RECORD)
    ]


def _cells(chain: Chain, table: Record, row: str | None) -> list[str]:
    """Name the numbers of a table that are not those of the summaries they were taken from."""
    path = table.values["outputs"]["table"]["path"]
    entries = [entry._replace(summary=chain.at(entry.summary)) for entry in _entries(table, row)]
    if not chain.at(path).is_file() or not all(entry.summary.is_file() for entry in entries):
        return []  # said already, as a file that is missing
    try:
        wanted = table_of(entries)[1]
    except UserError as error:
        return [str(error)]
    found = {_name(cells): cells for cells in read_csv_rows(chain.at(path))[1]}
    lines = []
    for cells in wanted:
        there = found.get(_name(cells))
        if there is None:
            lines.append(f"{path}: has no row {_name(cells)}")
            continue
        wrong = [key for key, value in cells.items() if there.get(key, "") != value]
        lines += [f"{path}: {_name(cells)}: {key} is {there.get(key)}, its summary says {cells[key]}" for key in wrong]
    return lines


def _name(cells: Mapping[str, str]) -> str:
    return " ".join(cells.get(key, "") for key in ("experiment", "stage", "variant"))


def _settings(
    chain: Chain, origins: Sequence[Origin], records: Sequence[Record], given: Sequence[Path] | None
) -> Iterator[str]:
    """Compare the settings of all jobs with the config of the newest one, as its files are today."""
    known = Configured(files=given, given={}, record="") if given else newest_config(chain, records)
    if known is None:
        return
    files = known.files
    said = ", ".join(str(file.relative_to(chain.base) if file.is_relative_to(chain.base) else file) for file in files)
    try:
        config = load_merged(files, known.given)
        runs = resolve(config)
    except UserError as error:
        if given:
            raise
        yield f"{said}: {error}; the settings of {known.record} came from it"
        return
    for origin in origins:
        if origin.experiment and origin.experiment not in runs:
            yield f"{said}: has no run {origin.experiment} now"
            continue
        settings = runs.get(origin.experiment, config)
        for record in origin.records:
            yield from setting_differences(settings, record, said)


if __name__ == "__main__":
    from video_vae.cli import main_for

    raise SystemExit(main_for("verify"))
