"""How the run was made, as tables: settings, environment, weights, time and memory, commands that make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from video_vae.config import Config
from video_vae.report.tables import Run
from video_vae.report.typed import typed

PACKAGES = "packages."
_SKIPPED = (
    "config.",
    "packages.",
    "arguments",
    "log",
    "settings.architecture.",
    "failed.",
    "result.",
    "outputs",
    "entries",
    "config_files",
)
_IDENTITIES = (".path", ".sha256")
"""What is shown of an input, and only of whole ones: a record names every file of a folder."""
_SHARD = r"_\d+$"
"""How the benchmark file of a shard ends."""
_FIRST = ("command", "start", "end", "seconds", "seed", "world_size", "threads", "code.", "python", "hardware.")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting that differs from its default."""

    key: str
    value: str
    default: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the runs' records say, split into what is the same wherever it is said, and what differs."""

    shared: list[tuple[str, str]]
    differing: list[tuple[str, list[str]]]
    """Key and one value for each run, in the order of `names`."""
    names: list[str]
    packages: list[tuple[str, str]]


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of nested mappings; lists stay whole."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def written(value: Any) -> str:
    """Write a setting as a person would type it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if value is not None else "null"


def changed_settings(config: Config) -> list[Setting]:
    """List the settings that differ from their defaults; keys that the defaults lack count as new."""
    own = dict(flatten(config.model_dump(mode="json")))
    defaults = dict(flatten(Config().model_dump(mode="json")))
    rows = []
    for key in sorted({*own, *defaults}, key=lambda name: list(own).index(name) if name in own else len(own)):
        if own.get(key, ...) != defaults.get(key, ...):
            texts = [written(table[key]) if key in table else "–" for table in (own, defaults)]
            rows.append(Setting(key=key, value=texts[0], default=texts[1]))
    return rows


def config_text(config: Config) -> str:
    """Write all settings as YAML."""
    values = config.model_dump(mode="json")
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))


def environment(runs: Sequence[Run]) -> Environment:
    """Split the records of the runs into what they share and what differs."""
    tables = [dict(flatten(run.record)) for run in runs]
    keys = list(dict.fromkeys(key for table in tables for key in table if _is_shown(key)))
    keys.sort(key=_rank)
    shared, differing = [], []
    for key in keys:
        values = [written(table[key]) if table.get(key) is not None else "" for table in tables]
        said = [value for value in values if value]
        if len(set(said)) == 1 and len(said) > min(1, len(runs) - 1):
            shared.append((key, said[0]))
        else:
            differing.append((key, values))
    packages: dict[str, set[str]] = {}
    for table in tables:
        for key, value in table.items():
            if key.startswith(PACKAGES):
                packages.setdefault(key.removeprefix(PACKAGES), set()).add(str(value))
    versions = [(name, ", ".join(sorted(found))) for name, found in packages.items()]
    return Environment(shared=shared, differing=differing, names=[run.name for run in runs], packages=versions)


def _is_shown(key: str) -> bool:
    if key.startswith("inputs."):
        return key.endswith(_IDENTITIES) and ".files." not in key and not key.startswith("inputs.clips ")
    return not key.startswith(_SKIPPED)


def _rank(key: str) -> int:
    return next((place for place, start in enumerate(_FIRST) if key.startswith(start)), len(_FIRST))


def job_costs(benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Give what each job cost, the longest first; the shards of one array are a row together.

    Columns: job, jobs (how many), s and cpu_time (seconds, summed over the shards), longest (s), max_rss (MB, the
    largest), mean_load (percent of a core). Repeats of a job are averaged.
    """
    if benchmarks.empty:
        return benchmarks
    columns = ["s", "max_rss", "cpu_time", "mean_load"]
    numeric = benchmarks[columns].apply(pd.to_numeric, errors="coerce").assign(job=benchmarks["job"])
    table = numeric.groupby("job", sort=False).mean().reset_index()
    table["job"] = table["job"].str.replace(_SHARD, "", regex=True)
    table["busy"] = table["mean_load"] * table["s"]
    table["loaded"] = table["s"].where(table["mean_load"].notna())
    rows = table.groupby("job", sort=False).agg(
        jobs=("s", "size"),
        s=("s", "sum"),
        longest=("s", "max"),
        max_rss=("max_rss", "max"),
        cpu_time=("cpu_time", _sum),
        busy=("busy", _sum),
        loaded=("loaded", _sum),
    )
    rows["mean_load"] = rows.pop("busy") / rows.pop("loaded")
    return rows.reset_index().sort_values("s", ascending=False, kind="stable").reset_index(drop=True)


def _sum(values: pd.Series) -> float:
    return float(values.sum(min_count=1))


def rerun_commands(rules: Sequence[str], configfile: str) -> list[tuple[str, str]]:
    """List what to type to make each part again: rule and command."""
    commands = [(rule, typed(f"-R {rule} --until {rule}", configfile)) for rule in rules if rule != "all"]
    everything = typed("results/metrics.csv reports/report.html", configfile)
    return [("what is missing or out of date", everything), *commands]
