"""Public sets of clips that others score on: what belongs to each, and whether a folder is that set.

The lists are facts of their sources: names, no clips. None of these sources publishes hashes of the clips.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from video_vae.data.frame_folders import is_frame_folder
from video_vae.data.suffixes import VIDEO_SUFFIXES
from video_vae.data.table import SAFE_ID
from video_vae.errors import UserError, one_line
from video_vae.files import absence, atomic_path
from video_vae.foreign import check_places

BENCHMARKS = ("davis", "davis-2017", "mcl-jcv", "tokenbench")
COLUMNS = ("path", "clip_id", "split")
"""Columns of the list of a set's clips: all are held out."""
MAX_NAMED = 5
"""Clips named of each kind."""
MAX_DEPTH = 16
"""Folders below each other that are looked into."""
RAW_SUFFIX = ".yuv"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set of clips."""

    name: str
    title: str
    where: str
    """Where the clips are to be had."""
    licence: str
    source: str
    """Where the list is from."""
    folders: Sequence[str]
    """Folders inside of the set's own that may hold the clips; the first one that exists is looked into."""
    prefixes: Sequence[str]
    """What the set's own scripts put before names of files."""
    clips: Sequence[str]
    """Names of files without ending, or of folders of frames; with their folders where these are part of the name."""
    starts: Sequence[str]
    """How names of further clips begin, of which the source gives no more; one clip or several of each."""

    def owner(self, *tails: str) -> str | None:
        """Return the entry of the list that a clip is, by the first of its names that is listed; None for a foreign."""
        for tail in tails:
            for prefix in ("", *self.prefixes):
                if tail.startswith(prefix) and tail[len(prefix) :] in self._listed:
                    return self._listed[tail[len(prefix) :]]
                for start in self.starts:
                    if tail.startswith(f"{prefix}{start}"):
                        return start
        return None

    @cached_property
    def _listed(self) -> dict[str, str]:
        return {flat(name): name for name in self.clips}

    @property
    def entries(self) -> list[str]:
        """List everything that the set must hold."""
        return [*self.clips, *self.starts]


def flat(name: str) -> str:
    """Write a name with folders as one word."""
    return name.replace("/", "_")


def load_benchmark(name: str) -> Benchmark:
    """Read the list of a set.

    Raises:
        UserError: if there is no set of this name.
    """
    if name not in BENCHMARKS:
        raise UserError(f"no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    text = Path(__file__).with_name("benchmarks").joinpath(f"{name}.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return Benchmark(name=name, **values)


def find_clips(benchmark: Benchmark, folder: Path) -> dict[Path, str]:
    """Find the clips of a set in its folder: files and folders of frames, each with its entry of the list.

    Raises:
        UserError: one line that counts and names what is missing, foreign or there twice, with the cure.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} {absence(folder) or 'is not a folder'}; name the folder of {benchmark.title}")
    base = next((folder / name for name in benchmark.folders if (folder / name).is_dir()), folder)
    found: dict[Path, str] = {}
    foreign: list[str] = []
    for clip in _clips(base):
        parts = clip.relative_to(base).with_suffix("").parts if clip.is_file() else clip.relative_to(base).parts
        entry = benchmark.owner(*("_".join(parts[start:]) for start in range(len(parts))))
        if entry is None:
            foreign.append(clip.relative_to(folder).as_posix())
        else:
            found[clip] = entry
    problem = _problem(benchmark, base, found, foreign)
    if problem:
        raise UserError(
            one_line(f"{folder} is not {benchmark.title}: {problem}; clips are to be had at {benchmark.where}")
        )
    return found


def _clips(folder: Path, depth: int = 0) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and is_frame_folder(entry):
            yield entry
        elif entry.is_dir() and depth < MAX_DEPTH:
            yield from _clips(entry, depth + 1)
        elif entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file():
            yield entry


def _problem(benchmark: Benchmark, base: Path, found: Mapping[Path, str], foreign: Sequence[str]) -> str:
    there = list(found.values())
    missing = [name for name in benchmark.entries if name not in there]
    twice = [name for name in benchmark.clips if there.count(name) > 1]
    said = []
    if missing:
        said.append(f"missing: {len(missing)} of {len(benchmark.entries)} clips ({_named(missing)})")
        raw = [name for name in missing if (base / f"{name}{RAW_SUFFIX}").is_file()]
        if raw:
            said.append(
                f"of these raw {RAW_SUFFIX}: {len(raw)}, to be written as video without loss under the same names"
            )
    if foreign:
        said.append(f"foreign, to be taken out: {len(foreign)} ({_named(foreign)})")
    if twice:
        said.append(f"there twice: {len(twice)} ({_named(twice)})")
    return "; ".join(said)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def differs(benchmark: Benchmark, clip_ids: Iterable[str]) -> str:
    """Say how clips differ from a set, by their names; empty where they are the set."""
    owners = [benchmark.owner(name) for name in dict.fromkeys(clip_ids)]
    there = {name for name in owners if name is not None}
    others = owners.count(None)
    said = [] if len(there) == len(benchmark.entries) else [f"{len(there)} of the {len(benchmark.entries)} clips"]
    said += [f"{others} other clip{'s' if others > 1 else ''}"] if others else []
    return " and ".join(said)


def run(args: Namespace) -> None:
    """Check that a folder is a set, and list its clips where a table is asked for."""
    if args.output is not None:
        check_places({args.output: COLUMNS})
    benchmark, folder = load_benchmark(args.benchmark), Path(args.config)
    found = find_clips(benchmark, folder)
    if args.output is not None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip, entry in found.items():
            name = flat(entry) if entry in benchmark.clips else clip.stem
            writer.writerow([str(clip.absolute()), name if SAFE_ID.fullmatch(name) else "", "test"])
        with atomic_path(args.output) as aside:
            aside.write_text(text.getvalue(), encoding="utf-8")
    sys.stdout.write(f"{folder}: {benchmark.title}, all there ({len(found)} clips); licence: {benchmark.licence}\n")
