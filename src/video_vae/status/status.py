"""Show where a workflow stands: its stages, its jobs, what failed and where that one's log is.

Reads files only (results, logs, .snakemake/log), so that it works beside a running workflow, after it, and on the login
node of a cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from video_vae.errors import UserError
from video_vae.files import spellings
from video_vae.report.terms import MISSING, counted, duration, number
from video_vae.status.jobs import Job, Workflow, read_workflow, states
from video_vae.status.stages import Stage, read_stages

MAX_JOBS = 12
"""Jobs of a kind that are listed; the rest are counted."""
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `status`."""
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="results of the workflow")
    parser.add_argument("--watch", action="store_true", help="show it again and again until Ctrl-C")
    parser.add_argument("--interval", type=float, default=5.0, metavar="S", help="seconds between two looks")
    parser.add_argument("--json", action="store_true", help="write all figures as JSON, one line a look")


def run(args: argparse.Namespace) -> None:
    """Show the status once, or until interrupted.

    Raises:
        UserError: if nothing has run here.
    """
    while True:
        stages, workflow = look(args.results)
        text = as_json(stages, workflow) if args.json else "\n".join(as_text(stages, workflow, args.results))
        sys.stdout.write((CLEAR if args.watch and not args.json and sys.stdout.isatty() else "") + text + "\n")
        sys.stdout.flush()
        if not args.watch:
            return
        time.sleep(max(0.2, args.interval))


def look(results: Path) -> tuple[list[Stage], Workflow | None]:
    """Read the stages below a results folder and the workflow that writes it.

    Raises:
        UserError: if nothing has run here.
    """
    roots = [place.parent for place in spellings(results)]
    root = next((folder for folder in roots if (folder / ".snakemake").is_dir()), roots[0])
    stages, workflow = read_stages(results), read_workflow(root)
    if not stages and workflow is None:
        raise UserError(
            f"nothing has run here: neither {results} nor {root / '.snakemake/log'} holds anything; go to the folder "
            "in which you start snakemake, or name its results with --results"
        )
    for job in workflow.having("failed") if workflow else []:
        for stage in stages:
            if job.rule == f"train_{stage.stage}" and job.wildcards.get("experiment") == stage.experiment:
                stage.state = "failed" if stage.state == "stopped" else stage.state
    return stages, workflow


def as_json(stages: Sequence[Stage], workflow: Workflow | None) -> str:
    """Write everything as one line of JSON."""
    record: dict[str, Any] = {"time": round(time.time(), 3), "stages": [asdict(stage) for stage in stages]}
    record["workflow"] = None if workflow is None else {**asdict(workflow), "states": states(workflow)}
    return json.dumps(record)


def as_text(stages: Sequence[Stage], workflow: Workflow | None, results: Path) -> Iterator[str]:
    """Write it for people, line by line."""
    if workflow is not None:
        yield from _workflow_lines(workflow)
    else:
        yield f"no log of Snakemake beside {results}: the stages were started by hand"
    if stages:
        yield ""
        yield from _table([HEADER, *map(_row, stages)])
    if workflow is not None:
        yield from _job_lines("running", workflow.having("running"))
        yield from _job_lines("in the queue", workflow.having("queued"))
        yield from _failures(workflow.having("failed"))


HEADER = ("run", "stage", "state", "step", "loss", "held out", "frames/s", "left", "last checkpoint")


def _row(stage: Stage) -> tuple[str, ...]:
    steps = MISSING if stage.steps is None else f"{stage.steps:,}"
    share = f" ({100 * stage.step / stage.steps:.0f} %)" if stage.steps and stage.state != "done" else ""
    left = duration(stage.seconds_left) if stage.state == "running" else ""
    if stage.state == "done":
        left = f"took {duration(stage.seconds)}"
    elif stage.state != "running" and stage.silent is not None:
        left = f"silent for {duration(stage.silent)}"
    valid = " ".join(f"{name} {value:.4g}" for name, value in (stage.valid or {}).items())
    saved = ""
    if stage.checkpoint_step is not None and stage.state != "done":
        saved = f"step {stage.checkpoint_step:,}, {duration(stage.checkpoint_age)} ago"
    return (
        stage.experiment,
        stage.stage,
        stage.state,
        f"{stage.step:,}/{steps}{share}",
        MISSING if stage.loss is None else f"{stage.loss:.4g}",
        valid,
        number(stage.frames_per_s, 1),
        left,
        saved,
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _workflow_lines(workflow: Workflow) -> Iterator[str]:
    counts = states(workflow)
    said = [f"{counts[state]} {text}" for state, text in STATES.items() if counts[state]]
    yield f"workflow {workflow.state}: {workflow.done} of {counted(workflow.total, 'job')} done" + "".join(
        f", {part}" for part in said
    )
    if workflow.state == "stopped":
        yield "Snakemake was ended; `--unlock` removes the lock that it may have left, then the same command goes on"
    yield f"log: {workflow.log}"


STATES = {"running": "running", "queued": "in the queue", "failed": "failed", "stopped": "cut off"}


def _job_lines(title: str, jobs: Sequence[Job]) -> Iterator[str]:
    if not jobs:
        return
    yield ""
    yield f"{title}:"
    for job in jobs[:MAX_JOBS]:
        slurm = f", SLURM job {job.slurm}" if job.slurm else ""
        yield f"  {job.name}{slurm}{': ' if job.says else ''}{''.join(job.says)[:160]}"
    if len(jobs) > MAX_JOBS:
        yield f"  and {len(jobs) - MAX_JOBS} more"


def _failures(jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs[:MAX_JOBS]:
        yield ""
        again = f" after {job.attempts} attempts" if job.attempts > 1 else ""
        yield f"failed{again}: {job.name}{f', SLURM job {job.slurm}' if job.slurm else ''}"
        yield from (f"  log: {name}" for name in job.logs)
        yield from (f"  | {line[:200]}" for line in job.says)
    if len(jobs) > MAX_JOBS:
        yield f"and {len(jobs) - MAX_JOBS} more failed"
