"""How far each stage's training is, from its log.jsonl and its checkpoints."""

from __future__ import annotations

import itertools
import json
import re
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from video_vae.status.tail import last_text

RECENT = 50
"""Steps that loss and speed are averaged over."""
SILENT_STEPS, SILENT_SECONDS = 5, 120.0
"""A training runs as long as its log is not silent for longer than so many steps and seconds."""
CHECKPOINT = re.compile(r"step-(\d{9,})")
JUDGED = ("d_loss", "logits_real", "logits_fake")
"""Figures of a discriminator's lines."""
QUALITY = ("psnr", "psnr_latent", "l1")
"""Figures of a validation, the one that says most first."""


@dataclass(kw_only=True)
class Stage:
    """One stage of one experiment."""

    experiment: str
    stage: str
    state: str
    """`waiting` (planned), `running`, `done`, `failed`, `stopped` (begun, and nobody trains) or `outdated` (to be
    trained again, since it is not as the config says)."""
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    """Mean of the last steps."""
    discriminator: dict[str, float] | None = None
    """Means of its loss and logits over the last steps, where the stage trains against one."""
    valid: dict[str, float] | None = None
    """The last validation: one figure by its name."""
    windows: dict[str, int] | None = None
    """What it is of: `count` windows of held-out clips, `shortest` and `longest` in frames."""
    spatial_psnr: float | None = None
    """PSNR in dB of the spatial VAE alone on the same windows, as last measured: what `psnr` compares with."""
    frames_per_s: float | None = None
    seconds_left: float | None = None
    checkpoint_step: int | None = None
    checkpoint_age: float | None = None
    """Seconds since the last checkpoint."""
    silent: float | None = None
    """Seconds since the last line of the log."""
    seconds: float | None = None
    """Time trained, of a finished stage."""
    step_seconds: float | None = None
    """Seconds per step."""
    host: str = ""
    """Another machine that trains it, as far as its log tells: it is not silent for long."""
    log: str = ""


def read_stages(results: Path, now: float | None = None) -> list[Stage]:
    """Read every stage that was begun below a results folder."""
    moment = time.time() if now is None else now
    begun = {(path.parents[2].parent.name, path.parents[1].name) for path in results.glob("*/state/*/*/log.jsonl")}
    begun |= {(path.parents[1].name, path.parent.name) for path in results.glob("*/stage*/run.json")}
    return [_stage(results, experiment, stage, moment) for experiment, stage in sorted(begun)]


def _stage(results: Path, experiment: str, name: str, now: float) -> Stage:
    output = results / experiment / name
    logs = sorted((results / experiment / "state" / name).glob("*/log.jsonl"), key=_changed)
    record = output / "run.json"
    if record.is_file() and (not logs or _changed(logs[-1]) <= _changed(record)):
        return _finished(experiment, name, output)
    stage = _figures(experiment, name, logs[-1], now)
    silence = max(SILENT_SECONDS, SILENT_STEPS * (_step_seconds(_lines(logs[-1])) or 0))
    place = _place(logs[-1].parent / "lock")
    if place.held or (place.held is None and stage.silent is not None and stage.silent < silence):
        stage.state = "running"
        stage.host = "" if place.held else place.host
    else:
        stage.seconds_left = None
    return stage


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _finished(experiment: str, name: str, output: Path) -> Stage:
    stage = _figures(experiment, name, output / "log.jsonl", time.time())
    try:
        record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    stage.state, stage.seconds_left, stage.silent = "done", None, None
    stage.seconds = record.get("trained_seconds", record.get("seconds"))
    stage.steps = stage.step = record.get("steps", stage.step)
    if stage.seconds and stage.steps:
        stage.step_seconds = stage.seconds / stage.steps
    return stage


def _figures(experiment: str, name: str, log: Path, now: float) -> Stage:
    stage = Stage(experiment=experiment, stage=name, state="stopped", log=str(log))
    lines = _lines(log)
    stage.steps = _planned_steps(log, lines)
    train = [line for line in lines if line.get("event") == "train"][-RECENT:]
    if lines:
        stage.silent = max(0.0, now - float(lines[-1].get("time", now)))
        stage.step = max(int(line.get("step", 0)) for line in lines)
    if train:
        stage.loss = _mean(train, "loss")
        stage.frames_per_s = _mean(train, "frames_per_s")
        seconds = _step_seconds(lines)
        stage.step_seconds = seconds
        if seconds is not None and stage.steps:
            stage.seconds_left = max(0, stage.steps - stage.step) * seconds
    judged = [line for line in lines if line.get("event") == "discriminator"][-RECENT:]
    means = {key: mean for key in JUDGED if (mean := _mean(judged, key)) is not None}
    stage.discriminator = means or None
    for line in lines:
        if line.get("event") == "valid":
            known = [key for key in QUALITY if isinstance(line.get(key), int | float)]
            stage.valid = {known[0]: line[known[0]]} if known else stage.valid
            stage.windows = line.get("windows", stage.windows)
            stage.spatial_psnr = line.get("psnr_spatial", stage.spatial_psnr)
    found = [(int(match[1]), part) for part in log.parent.glob("step-*") if (match := CHECKPOINT.fullmatch(part.name))]
    if found:
        stage.checkpoint_step, folder = max(found)
        stage.checkpoint_age = max(0.0, now - _changed(folder))
    return stage


def _lines(log: Path) -> list[dict[str, Any]]:
    """Read the last lines of a log, without a half-written one."""
    return list(_parsed(last_text(log)))


def _parsed(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _planned_steps(log: Path, lines: list[dict[str, Any]]) -> int | None:
    """Find the number of steps, which a start or a resume notes: among the last lines or in the first one."""
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            first = list(_parsed(stream.readline()))
    except OSError:
        first = []
    noted = [line["steps"] for line in [*first, *lines] if isinstance(line.get("steps"), int)]
    return noted[-1] if noted else None


def _mean(lines: list[dict[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if isinstance(line.get(name), int | float)]
    return statistics.fmean(values) if values else None


def _step_seconds(lines: list[dict[str, Any]]) -> float | None:
    """Return the seconds per step over the last lines; a pause between two starts is left out, as the median does."""
    train = [(line["step"], line["time"]) for line in lines if line.get("event") == "train" and "time" in line][
        -RECENT:
    ]
    gaps = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in itertools.pairwise(train)
        if later[0] > earlier[0]
    ]
    return statistics.median(gaps) if gaps else None


class Place(NamedTuple):
    """Where a training's lock was taken, and whether it is held; None where that cannot be known from here."""

    host: str
    held: bool | None


def _place(lock: Path) -> Place:
    """Look at a training's lock, which names the machine and the process that took it.

    The list of the kernel's locks is read: trying to take the lock could turn away a training that starts.
    """
    try:
        number = lock.stat().st_ino
        host, _, pid = lock.read_text(encoding="utf-8").strip().rpartition(":")
        listed = Path("/proc/locks").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return Place("", None)
    if re.search(rf":{number} ", listed):
        return Place(host, held=True)
    here = host == socket.gethostname() and pid.isdigit()
    return Place(host, held=_trains(int(pid)) if here else None)


def _trains(pid: int) -> bool:
    """Tell whether a process of this machine is one of ours; its file system may know no locks."""
    try:
        return b"video_vae" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
