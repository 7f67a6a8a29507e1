"""The jobs of a workflow, from the log that Snakemake keeps in `.snakemake/log`."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from video_vae.status.tail import last_lines

STATS = re.compile(r"^Job stats:\n.*?\n-+ .*?\n(.*?)\ntotal\s+(\d+)", re.MULTILINE | re.DOTALL)
LAST_LINES = 5
"""Lines of a failed job's log that are shown."""
COMMAND = re.compile(r"(?:python|torchrun) .*-m video_vae\.")
"""The first line of a training's log."""


@dataclass(kw_only=True)
class Job:
    """One job that was started, submitted or failed."""

    number: int
    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    """Its log files, the cluster's too, as Snakemake names them."""
    state: str = "running"
    """`queued` (a cluster has not started it yet), `running`, `done` or `failed`."""
    slurm: str = ""
    """Its number in the SLURM queue."""
    attempts: int = 1
    says: list[str] = field(default_factory=list)
    """Last lines of its log, where it runs or has failed."""

    @property
    def name(self) -> str:
        """Name it: rule and wildcards."""
        values = ", ".join(self.wildcards.values())
        return f"{self.rule} ({values})" if values else self.rule


@dataclass(kw_only=True)
class Workflow:
    """The last run of Snakemake in a folder."""

    log: str
    state: str
    """`running`, `finished`, `failed` or `stopped` (it ended without saying so)."""
    total: int
    """Jobs planned."""
    planned: dict[str, int]
    """Jobs planned by rule."""
    done: int = 0
    locked: bool = False
    """Whether a lock of Snakemake is there."""
    jobs: list[Job] = field(default_factory=list)

    def having(self, *states: str) -> list[Job]:
        """List the jobs in some states."""
        return [job for job in self.jobs if job.state in states]


def read_workflow(root: Path) -> Workflow | None:
    """Read the newest log of a run in a folder; None where there is none (a dry run or a helper plans no jobs)."""
    logs = sorted((root / ".snakemake" / "log").glob("*.snakemake.log"), reverse=True)
    for path in logs:
        text = path.read_text(encoding="utf-8", errors="replace")
        stats = STATS.search(text)
        if stats is not None:
            workflow = _read(text, stats, path)
            workflow.locked = any((root / ".snakemake" / "locks").glob("*"))
            workflow.state = _state(workflow, text, root)
            _look_at_logs(workflow, root)
            return workflow
    return None


def _read(text: str, stats: re.Match[str], path: Path) -> Workflow:
    rows = (line.split() for line in stats[1].splitlines())
    planned = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    workflow = Workflow(log=str(path), state="", total=int(stats[2]), planned=planned)
    jobs: dict[int, Job] = {}
    for start, lines in _blocks(text[stats.end() :]):
        for pattern, action in EVENTS.items():
            match = re.match(pattern, start)
            if match is not None:
                action(jobs, match, lines)
        progress = re.match(r"(\d+) of \d+ steps", start)
        workflow.done = int(progress[1]) if progress else workflow.done
    workflow.jobs = [job for _, job in sorted(jobs.items())]
    return workflow


def _blocks(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each line that begins at the margin, with the `name: value` lines that are indented below it."""
    start = ""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith(" "):
            name, _, value = line.strip().partition(": ")
            lines.setdefault(name, value)
        else:
            yield start, lines
            start, lines = line, {}
    yield start, lines


def _started(jobs: dict[int, Job], match: re.Match[str], lines: Mapping[str, str]) -> None:
    if not lines.get("jobid", "").isdigit():
        return  # half a block: the log is being written
    number = int(lines["jobid"])
    again = jobs[number].attempts + 1 if number in jobs else 1
    pairs = (part.partition("=") for part in lines.get("wildcards", "").split(", ") if part)
    jobs[number] = Job(
        number=number,
        rule=match["rule"],
        wildcards={name: value for name, _, value in pairs},
        logs=_names(lines.get("log", "")),
        attempts=again,
    )


def _submitted(jobs: dict[int, Job], match: re.Match[str], lines: Mapping[str, str]) -> None:
    for number in match["numbers"].split(","):
        if int(number) in jobs:
            job = jobs[int(number)]
            job.state, job.slurm = "queued", match["slurm"]
            job.logs += _names(match.groupdict().get("log") or "")


def _finished(jobs: dict[int, Job], match: re.Match[str], lines: Mapping[str, str]) -> None:
    if int(match["number"]) in jobs:
        jobs[int(match["number"])].state = "done"


def _failed(jobs: dict[int, Job], match: re.Match[str], lines: Mapping[str, str]) -> None:
    if not lines.get("jobid", "").isdigit():
        return
    number = int(lines["jobid"])
    job = jobs.setdefault(number, Job(number=number, rule=match["rule"], logs=_names(lines.get("log", ""))))
    job.state = "failed"


EVENTS: dict[str, Callable[[dict[int, Job], re.Match[str], Mapping[str, str]], None]] = {
    r"(?:local)?(?:rule|checkpoint) (?P<rule>\w+):$": _started,
    r"Job (?P<numbers>\d+) has been submitted with SLURM jobid (?P<slurm>\S+)(?: \(log: (?P<log>.*)\))?": _submitted,
    r"Submitted array job with Snakemake IDs (?P<numbers>[\d,]+) and SLURM job ID (?P<slurm>\w+)": _submitted,
    r"Finished jobid: (?P<number>\d+)": _finished,
    r"Error in (?:rule|group) (?P<rule>\w+):$": _failed,
}
"""What a line of the log that begins at the margin may say."""


def _names(listed: str) -> list[str]:
    return [name for name in listed.removesuffix(" (check log file(s) for error details)").split(", ") if name]


def _state(workflow: Workflow, text: str, root: Path) -> str:
    if "\nComplete log(s): " in text:
        return "finished" if workflow.done >= workflow.total else "failed"
    host = re.search(r"^  Host: (.*)$", text, re.MULTILINE)
    if host is not None and host[1] == socket.gethostname():
        return "running" if _snakemake_runs_in(root) else "stopped"
    return "running" if workflow.locked else "stopped"


def _snakemake_runs_in(root: Path) -> bool:
    """Tell whether a process of this machine is Snakemake at work in a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = process.stat().st_uid == os.getuid() and (process / "cwd").readlink() == root.resolve()
            if mine and b"snakemake" in (process / "cmdline").read_bytes():
                return True
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return False


def _look_at_logs(workflow: Workflow, root: Path) -> None:
    """Tell queued jobs from running ones by their logs, and keep the last lines of those that run or have failed."""
    for job in workflow.jobs:
        files = [path for name in job.logs if (path := root / name).is_file() and path.suffix != ".ipynb"]
        if job.state == "queued" and files:
            job.state = "running"
        if job.state == "running" and workflow.state in ("finished", "failed", "stopped"):
            job.state = "stopped"
        if job.state in ("failed", "running", "stopped"):
            most = LAST_LINES if job.state == "failed" else 1
            job.says = next((lines for path in files if (lines := last_lines(path, most))), [])
        if job.state == "running" and job.says and COMMAND.match(job.says[0]):
            job.says = ["starting"]  # it loads its libraries, and has said nothing yet


def states(workflow: Workflow) -> Counter[str]:
    """Count the jobs by state."""
    return Counter(job.state for job in workflow.jobs)
