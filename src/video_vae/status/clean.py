"""Remove what no config names any more: runs, caches of latents, and states of trainings with other settings.

The configs are those that the records below RESULTS name, as their files are today, or those given by --configfile.
Only files that a job of this project wrote and that are unchanged since are removed, and nothing that is in use:
nothing while a workflow runs here, and nothing that a process of this machine has open or that changed in the last
minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from video_vae.config import load_merged
from video_vae.config.types import RESERVED
from video_vae.errors import UserError
from video_vae.files import lexical
from video_vae.status.jobs import read_workflow
from video_vae.status.outdated import Outdated, find_outdated
from video_vae.status.written import files_below, why_used, written_files

MAX_NAMED = 3
"""Files of others that a line names."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What is to be removed of some folders."""

    outdated: Outdated
    kept: str = ""
    """Why all of it stays."""
    folders: tuple[Path, ...] = ()
    """The folder, and that of its benchmarks."""
    files: frozenset[Path] = frozenset()
    foreign: tuple[Path, ...] = ()
    """Files that stay, since no job wrote them as they are."""
    size: int = 0
    """Bytes that are freed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `clean`."""
    parser.add_argument("--outdated", action="store_true", required=True, help="remove what no config names")
    parser.add_argument("--dry-run", action="store_true", help="only list it")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="results of the workflow")
    given = "a config that counts, several files merged as Snakemake does; may be repeated [all that the records name]"
    parser.add_argument("--configfile", type=Path, nargs="+", action="append", metavar="YAML", help=given)
    parser.add_argument(
        "--unused-for", type=float, default=10.0, metavar="MINUTES", help="leave what changed in the last minutes"
    )


def run(args: argparse.Namespace) -> None:
    """List what is outdated with its size, and remove it.

    Raises:
        UserError: if there are no results, it is not known what the configs name, or a workflow runs here.
    """
    if not args.results.is_dir():
        raise UserError(f"{args.results}: no such folder; go to the folder of the workflow, or name it by --results")
    base = lexical(args.results).parent
    workflow = read_workflow(base)
    if workflow is not None and workflow.state == "running" and not args.dry_run:
        raise UserError(f"a workflow runs in {base} ({workflow.log}); wait for its end, or list by --dry-run")
    configs = [load_merged(files) for files in args.configfile] if args.configfile else None
    removals = [_plan(item, args.results, args.unused_for) for item in find_outdated(args.results, configs)]
    for removal in removals:
        if not args.dry_run:
            _remove(removal)
        sys.stdout.write("".join(f"{line}\n" for line in _lines(removal, args.dry_run)))
    total = sum(removal.size for removal in removals) / 1e6
    said = f"{total:,.1f} MB {'would be freed' if args.dry_run else 'freed'}" if removals else "nothing is outdated"
    sys.stdout.write(f"{said}\n")


def _plan(outdated: Outdated, results: Path, minutes: float) -> Removal:
    """Say of a folder what is to be removed; benchmarks go with what they measured."""
    kept = outdated.unsure or why_used(outdated.path, minutes)
    if kept:
        return Removal(outdated=outdated, kept=kept)
    inner = outdated.path.relative_to(results)
    whole = len(inner.parts) == 1 or inner.parts[0] in RESERVED
    folders = (outdated.path, *([results / "benchmarks" / inner] if whole else []))
    files = frozenset[Path]().union(*(written_files(folder, lexical(results).parent) for folder in folders))
    foreign = tuple(path for folder in folders for path in files_below(folder) if path not in files)
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in map(Path.stat, files)}  # links count once
    size = sum(sizes.values())
    return Removal(outdated=outdated, folders=folders, files=files, foreign=foreign, size=size)


def _lines(removal: Removal, dry_run: bool) -> Iterator[str]:
    path, what = removal.outdated.path, removal.outdated.what
    if removal.kept:
        yield f"kept {path}: {what}, but {removal.kept}"
    if removal.files:
        yield f"{'would remove' if dry_run else 'removed'} {path}: {what}, {removal.size / 1e6:,.1f} MB"
    if removal.foreign:
        more = f" and {len(removal.foreign) - MAX_NAMED} more" if len(removal.foreign) > MAX_NAMED else ""
        yield f"kept {', '.join(map(str, removal.foreign[:MAX_NAMED]))}{more}: no job wrote it as it is"


def _remove(removal: Removal) -> None:
    """Remove the files, then the folders that are empty."""
    for path in removal.files:
        path.unlink(missing_ok=True)
    for folder in removal.folders:
        for parent, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):  # it holds something else, or is a link
                Path(parent).rmdir()


if __name__ == "__main__":
    from video_vae.cli import main_for

    raise SystemExit(main_for("clean"))
