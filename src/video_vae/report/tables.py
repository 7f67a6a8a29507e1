"""Read what a run left behind into tidy tables; whatever is missing becomes an empty table."""

from __future__ import annotations

import fnmatch
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from video_vae.config import SCORED, STAGES, Config
from video_vae.config import runs as config_runs
from video_vae.errors import UserError
from video_vae.files import walk
from video_vae.report.terms import METRICS

logger = logging.getLogger(__name__)

BASELINE = "baseline"
COMPARE = config_runs.COMPARE
"""Stage of the rows of rivals."""
_KEYS = ["experiment", "stage", "variant", "clip_id"]
_FRAME_COLUMNS = [*_KEYS, "frame", *METRICS]
LOG_BYTES = 10_000_000
"""Of a log of n times this size about every n-th training step is read: some 25,000 steps."""
TRAIN_MARK, DISCRIMINATOR_MARK = '"event": "train"', '"event": "discriminator"'
PART_RECORD = ".run.json"
"""Ending of the record of a part of a job."""
_CLIP_COLUMNS = [*_KEYS, "frames", *METRICS]
_LOG_COLUMNS = ["experiment", "stage", "event", "step", "time"]
_TEXT = {"clip_id": str, "variant": str}


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run.json of one job."""

    name: str
    """Its folder below the results, for example `demo/stage1`."""
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """All tables of a results folder; columns as in the files, with `experiment` and `stage` in front."""

    root: Path
    config: Config
    settings: config_runs.Runs
    """The settings of every run of the config, the base run first."""
    experiments: tuple[str, ...]
    """Runs with results, the base run first."""
    metrics_text: pd.DataFrame
    """metrics.csv, every cell as it stands in the file."""
    metrics: pd.DataFrame
    clips: pd.DataFrame
    """One row per clip, experiment, stage and variant."""
    frames: pd.DataFrame
    logs: pd.DataFrame
    runs: tuple[Run, ...]
    conditions: tuple[Run, ...]
    """What the scores of each stage and of the baselines were made under, and their warnings, from summary.json."""
    manifest: pd.DataFrame
    rejected: pd.DataFrame
    failed: pd.DataFrame
    """Clips that could not be reconstructed: `run`, `clip_id`, `path`, `reason`."""
    train: pd.DataFrame
    test: pd.DataFrame
    benchmarks: pd.DataFrame

    def scored_stages(self, experiment: str) -> list[str]:
        """List the stages of an experiment that were scored."""
        have = set(self.metrics.loc[self.metrics["experiment"] == experiment, "stage"])
        have |= set(self.clips.loc[self.clips["experiment"] == experiment, "stage"])
        return [stage for stage in SCORED if stage in have]

    def final_stage(self, experiment: str) -> str | None:
        """Give the last stage of an experiment that was scored."""
        done = self.scored_stages(experiment)
        return done[-1] if done else None

    def row(self, experiment: str, stage: str, variant: str) -> pd.Series | None:
        """Give one row of metrics.csv, or None."""
        table = self.metrics
        match = (table["experiment"] == experiment) & (table["stage"] == stage) & (table["variant"] == variant)
        return table[match].iloc[0] if match.any() else None

    def baseline_row(self, experiment: str, variant: str) -> pd.Series | None:
        """Give a baseline's row of an experiment, or of the base run where the experiment shares it."""
        for name in (experiment, *self.experiments):
            row = self.row(name, BASELINE, variant)
            if row is not None:
                return row
        return None

    def folder(self, experiment: str, stage: str, variant: str = "") -> Path:
        """Give the folder with the reconstructions of an experiment's stage, baselines or rival, which it may share."""
        part = part_of(stage, variant)
        owner = config_runs.reconstruction_owner(self.settings, experiment, part)
        return self.root / owner / config_runs.part_folder(part)


def load_results(config: Config, root: Path) -> Results:
    """Read all tables below a results folder.

    Raises:
        UserError: if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"results folder {root} does not exist: run the workflow first, or name it with --results")
    settings = config_runs.resolve(config)
    text = _read_csv(root / "metrics.csv", dtype=str, keep_default_na=False)
    metrics = _read_csv(root / "metrics.csv", dtype={"experiment": str, "stage": str, "variant": str})
    for column in ("experiment", "stage", "variant"):
        metrics = metrics if column in metrics else metrics.assign(**{column: pd.Series(dtype=str)})
    found = [name for name in settings if (root / name).is_dir() or name in set(metrics["experiment"])]
    experiments = tuple(dict.fromkeys([config.experiment, *found]))
    data = root / config_runs.data_owner(settings, config.experiment) / "data"
    clip_types = {"clip_id": str, "source_id": str}
    return Results(
        root=root,
        config=config,
        settings=settings,
        experiments=experiments,
        metrics_text=text,
        metrics=metrics,
        clips=_scores(root, settings, "clips.csv", _CLIP_COLUMNS),
        frames=_scores(root, settings, "frames.parquet", _FRAME_COLUMNS),
        logs=_logs(root, experiments),
        runs=tuple(_runs(root, config)),
        conditions=tuple(_conditions(root)),
        manifest=_read_csv(data / "manifest.csv", dtype=clip_types),
        rejected=_read_csv(data / "rejected.csv", dtype=str, keep_default_na=False),
        failed=_failed(root),
        train=_read_csv(data / "train.csv", dtype=clip_types),
        test=_read_csv(data / "test.csv", dtype=clip_types),
        benchmarks=_benchmarks(root),
    )


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **options)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def part_of(stage: str, variant: str = "") -> config_runs.Part:
    """Return the part of a run that a row of metrics.csv belongs to."""
    if stage == COMPARE:
        return config_runs.RivalName(variant)
    return next((name for name in SCORED if name == stage), None)


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield files of a name below a folder, leaving out resume states."""
    found = [Path(parent, file) for parent, files in walk(folder) for file in fnmatch.filter(files, name)]
    for path in sorted(found):
        if "state" not in path.relative_to(folder).parts[:-1]:
            yield path


def _scores(root: Path, settings: config_runs.Runs, name: str, columns: list[str]) -> pd.DataFrame:
    parts = []
    for experiment, run in settings.items():
        for part in config_runs.scored_parts(run):  # what was scored earlier, and is not now, may be of other clips
            stage = config_runs.part_label(part)
            owner = config_runs.evaluation_owner(settings, experiment, part)
            path = root / owner / config_runs.part_folder(part) / "metrics" / name
            if path.is_file():
                table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, dtype=_TEXT)
                parts.append(table.assign(experiment=experiment, stage=stage))
    if not parts:
        return pd.DataFrame({column: pd.Series(dtype=str if column in _KEYS else float) for column in columns})
    table = pd.concat(parts, ignore_index=True)
    return table.reindex(columns=list(dict.fromkeys([*columns, *table.columns])))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a log; of a long one only every n-th training step, so that time and memory stay small."""
    every, others = 1 + path.stat().st_size // LOG_BYTES, 0
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            beside = DISCRIMINATOR_MARK in line  # goes with the line of its step, before it
            others += beside
            if (number - others) % every and (beside or TRAIN_MARK in line):
                continue
            try:
                value = json.loads(line)
            except ValueError:
                # a killed run may leave half a line
                logger.warning("%s, line %d is not JSON and is left out", path, number)
                continue
            if isinstance(value, dict):
                yield value


def _logs(root: Path, experiments: tuple[str, ...]) -> pd.DataFrame:
    records = []
    for experiment in experiments:
        for stage in STAGES:
            path = root / experiment / stage / "log.jsonl"
            if path.is_file():
                records += [{**line, "experiment": experiment, "stage": stage} for line in _json_lines(path)]
    if not records:
        return pd.DataFrame({column: pd.Series(dtype=float) for column in _LOG_COLUMNS})
    table = pd.DataFrame.from_records(records)
    for column in _LOG_COLUMNS:
        table = table if column in table else table.assign(**{column: None})
    return table


def _conditions(root: Path) -> Iterator[Run]:
    for path in _files(root, "summary.json"):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            record = {
                **summary["conditions"],
                "warnings": list(summary.get("warnings", ())),
                "check": summary.get("check"),
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s holds no conditions and is left out", path)
            continue
        yield Run(name=path.parent.parent.relative_to(root).as_posix(), record=record)


def _runs(root: Path, config: Config) -> Iterator[Run]:
    """Read the records of all runs, and of the one that made a spatial VAE taken from a local folder."""
    files = {path.parent.relative_to(root).as_posix(): path for path in _files(root, "run.json")}
    for path in _files(root, f"*{PART_RECORD}"):  # of a shard, or of a job with one file
        files[path.with_name(path.name.removesuffix(PART_RECORD)).relative_to(root).as_posix()] = path
    if config.spatial.pretrained:
        files["spatial VAE"] = Path(config.spatial.pretrained, config.spatial.subfolder or "", "run.json")
    for name, path in files.items():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if path.exists():
                logger.warning("%s cannot be read and is left out: %s", path, error)
            continue
        yield Run(name=name, record=record)


def _failed(root: Path) -> pd.DataFrame:
    """Read which clips could not be reconstructed, by all jobs and shards, and why."""
    parts = []
    for path in _files(root, "*failed.csv"):
        table = _read_csv(path, dtype=str, keep_default_na=False)
        if not table.empty:
            table.insert(0, "run", path.parent.parent.relative_to(root).as_posix())
            parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _benchmarks(root: Path) -> pd.DataFrame:
    """Read Snakemake's benchmark files: one row a repeat, with the job's name."""
    parts = []
    folder = root / "benchmarks"
    for path in [*_files(folder, "*.tsv"), *_files(folder, "*.txt")]:
        try:
            table = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        except (pd.errors.EmptyDataError, pd.errors.ParserError):
            continue
        if "s" in table:
            parts.append(table.assign(job=path.relative_to(folder).with_suffix("").as_posix()))
    columns = ["job", "s", "max_rss", "cpu_time", "mean_load"]
    if not parts:
        return pd.DataFrame({column: pd.Series(dtype=str if column == "job" else float) for column in columns})
    table = pd.concat(parts, ignore_index=True)
    return table.reindex(columns=[*columns, *(c for c in table.columns if c not in columns)])
