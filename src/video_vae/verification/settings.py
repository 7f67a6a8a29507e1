"""Compare the settings, the code and the packages of records with those of today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from video_vae.config import STAGES, Config, parse_config, slices
from video_vae.config.protocols import protocol_text, scored_as
from video_vae.errors import UserError
from video_vae.provenance import code_record, package_versions
from video_vae.records import Record
from video_vae.verification.chain import Chain

EVALUATED = {"metric": "metrics"} | {
    name: name for name in ("flow", "flow_weights", "flow_sha256", "fvd_weights", "fvd_sha256", "bootstrap")
}
"""Options of `evaluate` and the settings under `evaluation` that they come from."""
SHORT = 12
_SLICERS: Mapping[str, Callable[[Config, Record], slices.Slice]] = {
    "fetch": lambda config, record: slices.package_slice(config, record.values["package"]),
    "manifest": lambda config, _: slices.data_slice(config),
    "start-model": lambda config, _: slices.start_slice(config),
    "train-spatial": lambda config, _: slices.spatial_slice(config),
    "encode-latents": lambda config, record: slices.latents_slice(config, _size(config, record)),
    "prepare-clips": lambda config, record: slices.prepare_slice(config, _size(config, record)),
    "encode": lambda config, _: slices.video_latents_slice(config),
    "train": lambda config, record: slices.stage_slice(config, record.values["stage"]),
    "reconstruct": lambda config, record: _reconstruction(config, record),
    "latent-statistics": lambda config, _: slices.statistics_slice(config),
    "report": lambda config, _: slices.report_slice(config),
}


def _size(config: Config, record: Record) -> Sequence[int] | None:
    """Return the size that a job saw frames at, where a config trains at it: one of `data.buckets`."""
    size = ((record.values.get("config") or {}).get("data") or {}).get("resolution")
    trained = [known for stage in STAGES for known in slices.sizes(config, stage)]
    return next((known for known in trained if [*known] == size), None)


def _reconstruction(config: Config, record: Record) -> slices.Slice:
    settings = record.values.get("settings", {})
    if "rival" in settings:
        return slices.rival_slice(config, settings["rival"])
    baselines = "hold" in settings
    return slices.baselines_slice(config) if baselines else slices.reconstruct_slice(config)


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What a workflow's settings were read from."""

    files: Sequence[Path]
    given: Mapping[str, Any]
    """What its command line changed in them."""
    record: str
    """Path of the record that says so."""


def newest_config(chain: Chain, records: Iterable[Record]) -> Configured | None:
    """Return what the newest record that names config files says of them; None where no record does."""
    named = [record for record in records if record.values.get("config_files")]
    if not named:
        return None
    newest = max(named, key=lambda record: str(record.values.get("end", "")))
    files = [chain.at(file["path"]) for file in newest.values["config_files"]]
    return Configured(files=files, given=newest.values.get("config_given") or {}, record=newest.path)


def setting_differences(config: Config, record: Record, origin: str) -> Iterator[str]:
    """Name the settings that a job read and that are others in a run's config today."""
    command, made = str(record.values.get("command")), record.values.get("config") or {}
    if command == "evaluate":
        now = scored_as(config).evaluation.model_dump(mode="json")
        read = EVALUATED | ({"fvd_frames": "fvd_frames"} if now["fvd_weights"] else {})
        pairs = {f"evaluation.{key}": (now[key], made.get(name)) for name, key in read.items()}
        pairs["evaluation.protocol"] = (protocol_text(config), made.get("under"))
    elif command in _SLICERS:
        try:
            then, today = (dict(_read(given, command, record)) for given in (parse_config(made), config))
        except UserError as error:
            yield f"{origin}: {error}; {record.path} was made with it"
            return
        pairs = {key: (today.get(key), then.get(key)) for key in dict.fromkeys([*then, *today])}
    else:
        return
    for key, (new, old) in pairs.items():
        if new != old:
            yield f"{origin}: {key} is {new!r} now, {record.path} was made with {old!r}"


def _read(config: Config, command: str, record: Record) -> Iterator[tuple[str, Any]]:
    """Yield the settings that a job reads; a job started by hand may have been given more."""
    return _flat(parse_config(_SLICERS[command](config, record)).model_dump(mode="json"))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def code_differences(records: Iterable[Record]) -> Iterator[str]:
    """Name the versions of this package that made some records and differ from this one."""
    now = code_record()
    for then, made in _grouped(records, lambda record: record.values.get("code", {}).get("sources")).items():
        if then != now["sources"]:
            commit = (made[0].values.get("code", {}).get("commit") or "no commit")[:SHORT]
            yield f"src/video_vae: is {now['sources']} now; {then} ({commit}) made {_counted(made)}"


def package_differences(records: Iterable[Record]) -> Iterator[str]:
    """Name the packages that had another version when some records were made."""
    chosen = list(records)
    now = package_versions()
    for name in dict.fromkeys(name for record in chosen for name in record.values.get("packages", {})):
        for then, made in _grouped(chosen, partial(_version, name)).items():
            if then is not None and then != now.get(name):
                yield f"{name}: is {now.get(name, 'not installed')} now; {then} made {_counted(made)}"


def _version(name: str, record: Record) -> str | None:
    version: str | None = record.values.get("packages", {}).get(name)
    return version


def _grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _counted(records: Sequence[Record]) -> str:
    more = f" and {len(records) - 1} more" if len(records) > 1 else ""
    return f"{records[0].path}{more}"
