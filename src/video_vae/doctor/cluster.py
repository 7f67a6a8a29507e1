"""Checks of a SLURM cluster and of the profile that submits to it: programs, partitions, what their nodes have."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from video_vae.distributed.slurm import minutes_of
from video_vae.doctor.machine import Check, State
from video_vae.provenance import CHECKOUT

SITE = re.compile(r"^\s*([\w-]+):\s*(.*?)\s*# SITE\b")
"""A line of a profile that differs from cluster to cluster: key and value. `init` takes the mark off those it fills."""
SHIPPED = CHECKOUT / "workflow" / "profiles" / "slurm" / "config.yaml"
"""The profile that a project's is a copy of."""
SINFO = ["sinfo", "--noheader", "--Node", "--format=%P|%l|%c|%m|%G"]
GPUS = re.compile(r"\bgpu(?::[\w.-]+)?:(\d+)")
EDIT = "edit the SITE lines of the profile"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node as a partition offers it."""

    partition: str
    minutes: float | None
    """The longest that a job may take; None where there is no limit."""
    cores: int
    memory: int
    """Megabytes."""
    gpus: int


def check_slurm(needed: bool, profile: Path | None = None) -> Iterator[Check]:
    """Check that jobs can be submitted as a profile says, and that its partitions' nodes have what it asks for."""
    bad: State = "broken" if needed else "note"
    missing = [name for name in ("sbatch", "sinfo", "squeue") if shutil.which(name) is None]
    if missing:
        there = "no SLURM here" if len(missing) == 3 else f"no {', '.join(missing)}"
        yield Check(name="SLURM", state=bad, text=f"{there}: start the workflow on the login node of a cluster")
        return
    done = _program(SINFO)
    if done is None or done.returncode:
        said = "no answer" if done is None else shorten(done.stderr, 160, placeholder=" ...")
        yield Check(name="SLURM", state=bad, text=f"sinfo failed ({said}); ask those who run the cluster")
        return
    nodes = [node for line in done.stdout.splitlines() if (node := _node(line)) is not None]
    found = sorted({node.partition for node in nodes})
    values = _profile(profile)
    faults = [*_lost(values, found), *_accounting(values), *_too_much(values, nodes)]
    for text in faults:
        yield Check(name="SLURM", state=bad, text=text)
    if not faults:
        yield Check(name="SLURM", state="ok", text=f"partitions {', '.join(found)}")
    if profile is not None and (named := unedited(profile)):
        cure = "edit them, or take the mark off where they are right"
        yield Check(name="profile", state="note", text=f"{profile}: lines marked SITE are as shipped: {named}; {cure}")


def unedited(profile: Path) -> str:
    """Name the lines marked SITE whose values nobody has edited, by key and line number; empty where there are none.

    Of the checkout's own profile, which is edited in place, those are all that have the mark.
    """
    shipped = {value for _, value in _site_lines(SHIPPED)} if SHIPPED.is_file() else None
    found: dict[str, list[str]] = {}
    for number, (key, value) in _site_lines(profile):
        if shipped is None or (key, value) in shipped:
            found.setdefault(key, []).append(str(number))
    return ", ".join(f"{key} (line {', '.join(numbers)})" for key, numbers in found.items())


def _site_lines(profile: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    for number, line in enumerate(profile.read_text(encoding="utf-8").splitlines(), 1):
        if match := SITE.match(line):
            yield number, (match[1], match[2])


def submits(profile: Path) -> bool:
    """Tell whether a profile submits to SLURM."""
    return _profile(profile if profile.is_file() else None).get("executor") == "slurm"


def _profile(path: Path | None) -> Mapping[str, Any]:
    values = yaml.safe_load(path.read_text(encoding="utf-8")) if path is not None else None
    return values if isinstance(values, dict) else {}


def _rules(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what a rule asks for, by the place in the profile, the defaults with it."""
    defaults = values.get("default-resources") or {}
    if isinstance(defaults, dict):
        yield "default-resources", defaults
        for name, asked in (values.get("set-resources") or {}).items():
            if isinstance(asked, dict):
                yield f"set-resources.{name}", {**defaults, **asked}


def _lost(values: Mapping[str, Any], found: list[str]) -> Iterator[str]:
    named = {name for _, asked in _rules(values) for name in str(asked.get("slurm_partition") or "").split(",") if name}
    lost = sorted(named.difference(found))
    if lost:
        yield f"no partition {', '.join(lost)} (there are {', '.join(found)}): {EDIT}"


def _accounting(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("slurm-status-command") == "sacct" and shutil.which("sacct") is None:
        yield "no sacct here, which the profile asks for the state of jobs: write slurm-status-command: squeue"


def _too_much(values: Mapping[str, Any], nodes: list[Node]) -> Iterator[str]:
    """Name what rules ask for and no node of their partitions has."""
    said = set()
    for place, asked in _rules(values):
        names = str(asked.get("slurm_partition") or "").split(",")
        there = [node for node in nodes if node.partition in names]
        if not there:
            continue
        where = f"partition {', '.join(names)}"
        for key, wanted, most, unit in _asked(asked, there):
            if wanted > most and (key, where, wanted) not in said:
                said.add((key, where, wanted))
                yield f"{place} asks for {key}: {wanted:g}{unit}, and {where} has {most:g}{unit}: {EDIT}"


def _asked(asked: Mapping[str, Any], there: list[Node]) -> Iterator[tuple[str, float, float, str]]:
    """Yield what is asked of a node with the most that one has."""
    limits = [node.minutes for node in there if node.minutes is not None]
    of_node = {
        "runtime": (max(limits) if len(limits) == len(there) else float("inf"), " minutes"),
        "cpus_per_task": (max(node.cores for node in there), " cores"),
        "mem_mb": (max(node.memory for node in there), " MB on a node"),
        "nodes": (len(there), " nodes"),
        "gpu": (max(node.gpus for node in there), " GPUs on a node"),
    }
    gres = GPUS.search(str(asked.get("gres") or ""))
    for key, (most, unit) in of_node.items():
        wanted = gres[1] if key == "gpu" and gres else asked.get(key)
        if str(wanted).isdigit():
            yield key, float(str(wanted)), most, unit


def _node(line: str) -> Node | None:
    fields = line.split("|")
    if len(fields) != 5:
        return None
    name, limit, cores, memory, gres = fields
    return Node(
        partition=name.strip().rstrip("*"),
        minutes=minutes_of(limit),
        cores=int(re.sub(r"\D", "", cores) or 0),
        memory=int(re.sub(r"\D", "", memory) or 0),
        gpus=sum(map(int, GPUS.findall(gres))),
    )


def _program(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
