"""What lies below a results folder that no config names any more: runs, caches of latents, states of trainings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from video_vae.config import STAGES, Config, StageName, load_merged, parse_config
from video_vae.config.runs import Runs, data_owner, resolve, stage_owner
from video_vae.config.slices import (
    Slice,
    cached_sizes,
    data_slice,
    latents_fingerprint,
    prepared_fingerprint,
    prepared_sizes,
    stage_slice,
)
from video_vae.config.types import RESERVED
from video_vae.errors import UserError
from video_vae.files import lexical
from video_vae.provenance import RECORD, canonical_json
from video_vae.records import Record, read_record, records_below

FINGERPRINT = re.compile("[0-9a-f]{16}")
"""Name of a state's folder and of a cache's."""
STATE = "state"


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """A folder that no config names."""

    path: Path
    what: str
    """Such as `run` or `latents of other settings`."""
    unsure: str = ""
    """Why it may be named after all."""


def recorded_configs(results: Path) -> list[Config]:
    """Read all configs that the records of a results folder name, as their files are today.

    Raises:
        UserError: if one cannot be read: then it is not known what it names.
    """
    base = lexical(results).parent
    found: dict[str, Config] = {}
    for record in records_below(results):
        files = [lexical(base / entry["path"]) for entry in record.values.get("config_files") or []]
        given = record.values.get("config_given") or {}
        key = canonical_json([list(map(str, files)), given])
        if files and key not in found:
            try:
                found[key] = load_merged(files, given)
            except UserError as error:
                why = f"{error}, which {record.path} was made with"
                raise UserError(f"{why}; put it back, or name the configs that count by --configfile") from None
    if not found:
        raise UserError(f"no record below {results} says which configs there are; name them by --configfile")
    return list(found.values())


def find_outdated(results: Path, configs: Sequence[Config] | None) -> list[Outdated]:
    """List what none of some configs names below a results folder, large parts first: runs, caches, states.

    Args:
        results: the results folder.
        configs: the configs that count; None takes all that the records name.

    Raises:
        UserError: if it is not known what the recorded configs name.
    """
    all_runs = [resolve(config) for config in (recorded_configs(results) if configs is None else configs)]
    runs = _runs(results, all_runs, sure=configs is not None)
    return [*runs, *_caches(results, all_runs), *_states(results, all_runs)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _runs(results: Path, all_runs: Sequence[Runs], *, sure: bool) -> Iterator[Outdated]:
    named = {name for runs in all_runs for name in runs}
    for folder in _folders(results):
        if folder.name in named | RESERVED or not _is_run(folder):
            continue
        configured = all(record.values.get("config_files") for record in records_below(folder))
        unsure = "" if sure or configured else "its records name no config; name the configs that count by --configfile"
        yield Outdated(path=folder, what="run", unsure=unsure)


def _is_run(folder: Path) -> bool:
    """Tell whether a folder holds a run of the workflow, not a copy: records of its parts, or states of trainings."""
    records = [record for part in _folders(folder) if (record := _record(part)) is not None]
    if records:
        return any(record.wrote_below(folder, lexical(folder).parents[1]) for record in records)
    return any(FINGERPRINT.fullmatch(path.name) for path in folder.glob(f"{STATE}/*/*"))


def _record(folder: Path) -> Record | None:
    try:
        record = Record(path=str(folder / RECORD), values=read_record(folder / RECORD))
    except UserError:
        return None
    return record if {"command", "code"} <= record.values.keys() else None


def _caches(results: Path, all_runs: Sequence[Runs]) -> Iterator[Outdated]:
    """Find latents and prepared clips of other settings."""
    configs = [run for runs in all_runs for run in runs.values()]
    latents = {latents_fingerprint(run): False for run in configs if not cached_sizes(run)}
    latents |= {latents_fingerprint(run, size): True for run in configs for size in cached_sizes(run)}
    yield from _unnamed(results / "latents", latents, "latents of other settings")
    preparing = [run for run in configs if run.data.prepare != "none"]
    prepared = {prepared_fingerprint(run): False for run in preparing if not prepared_sizes(run)}
    prepared |= {prepared_fingerprint(run, size): True for run in configs for size in prepared_sizes(run)}
    yield from _unnamed(results / "prepared", prepared, "prepared clips of other settings")


def _unnamed(parent: Path, made: Mapping[str, bool], what: str) -> Iterator[Outdated]:
    """Find folders that no config names; they stay while one that is to be made may take clips from them.

    `made` tells of each folder that a config names whether any stage reads it.
    """
    coming = [name for name, used in made.items() if used and not any((parent / name).glob("*.run.json"))]
    unsure = f"{parent.name}/{coming[0]}, which is still to be made, takes clips from it" if coming else ""
    for folder in _folders(parent):
        if folder.name not in made and FINGERPRINT.fullmatch(folder.name):
            yield Outdated(path=folder, what=what, unsure=unsure)


def _states(results: Path, all_runs: Sequence[Runs]) -> Iterator[Outdated]:
    """Find states that nothing goes on from: of stages that other runs train now, and of other settings.

    Which settings a state has is known of a stage that is finished as its config says: it names its own state.
    """
    for name in {name: None for runs in all_runs for name in runs}:
        naming = [runs for runs in all_runs if name in runs]
        for stage in STAGES:
            states = [path for path in _folders(results / name / STATE / stage) if FINGERPRINT.fullmatch(path.name)]
            training = [
                runs for runs in naming if stage in runs[name].stages.trained and stage_owner(runs, name, stage) == name
            ]
            kept = {finished_state(results, runs, name, stage) for runs in training}
            if None not in kept:
                yield from (
                    Outdated(path=path, what=f"state of other settings of {stage}")
                    for path in states
                    if path.name not in kept
                )


def finished_state(results: Path, runs: Runs, name: str, stage: StageName) -> str | None:
    """Return the name of the state that a stage was finished from; None where it is not made as the config says."""
    made = [(data_slice, results / data_owner(runs, name) / "data")]
    for part in [part for part in runs[name].stages.trained if STAGES.index(part) <= STAGES.index(stage)]:
        made.append((partial(stage_slice, stage=part), results / stage_owner(runs, name, part) / part))
    records = [_record(folder) for _, folder in made]
    for (slicer, _), record in zip(made, records, strict=True):
        if record is None or not _made_with(record, slicer, runs[name]):
            return None
    last = records[-1]
    return None if last is None else last.values.get("fingerprint")


def made_as(folder: Path, slicer: Callable[[Config], Slice], run: Config) -> bool:
    """Tell whether what is in a folder was made with the settings that a run has, as its record says."""
    record = _record(folder)
    return record is not None and _made_with(record, slicer, run)


def _made_with(record: Record, slicer: Callable[[Config], Slice], run: Config) -> bool:
    try:
        return slicer(parse_config(record.values["config"])) == slicer(run)
    except (KeyError, TypeError, UserError):  # of another version
        return False
