"""Show where a workflow stands: its stages, its jobs, what failed and where that one's log is.

Reads files only (results, logs, .snakemake/log), so that it works beside a running workflow, after it, and on the login
node of a cluster.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from video_vae.distributed.stopping import GOES_ON, Stopped
from video_vae.errors import UserError
from video_vae.files import lexical, spellings
from video_vae.report.lost import lost_outputs
from video_vae.report.terms import MISSING, counted, duration, number
from video_vae.status.jobs import Job, Workflow, read_workflow, states
from video_vae.status.planned import mark_by_jobs, planned_stages, read_plan, shared_lines, time_left
from video_vae.status.stages import Stage, read_stages

MAX_JOBS = 12
"""Jobs of a kind that are listed; the rest are counted."""
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
TOP, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


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
    if args.watch and not args.json and sys.stdout.isatty():
        _watch(args)
        return
    while True:
        seen = look(args.results)
        sys.stdout.write((as_json(seen) if args.json else "\n".join(as_text(seen, args.results))) + "\n")
        sys.stdout.flush()
        if not args.watch:
            return
        time.sleep(max(0.2, args.interval))


def _watch(args: argparse.Namespace) -> None:
    """Show it again and again on the terminal's other screen, as far as it fits; what was there before comes back."""
    text = "\n".join(as_text(look(args.results), args.results))
    try:
        sys.stdout.write(OTHER_SCREEN)
        while True:
            width, height = shutil.get_terminal_size()
            lines = [line[:width] for line in text.splitlines()]
            hidden = f"... {len(lines) - height + 2} more lines: video-vae status"
            shown = lines if len(lines) < height else [*lines[: height - 2], hidden[:width]]
            sys.stdout.write(TOP + "".join(f"{line}{TO_LINE_END}\r\n" for line in shown) + TO_SCREEN_END)
            sys.stdout.flush()
            time.sleep(max(0.2, args.interval))
            text = "\n".join(as_text(look(args.results), args.results))
    except KeyboardInterrupt as error:  # how watching ends; a signal of another kind still gives its status
        if isinstance(error, Stopped) and error.number != signal.SIGINT:
            raise
    finally:
        with suppress(OSError):  # the terminal is closed
            sys.stdout.write(FIRST_SCREEN + text + "\n")
            sys.stdout.flush()


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen at a moment."""

    stages: list[Stage] = field(default_factory=list)
    workflow: Workflow | None = None
    shared: list[str] = field(default_factory=list)
    """Which runs take stages of others."""
    lost: list[str] = field(default_factory=list)
    """Models and reconstructions that are gone, with what makes them again."""


def look(results: Path) -> Look:
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
    place = lexical(results)
    inner = place.relative_to(lexical(root)) if place.is_relative_to(lexical(root)) else place
    runs = read_plan(root, inner, running=workflow is not None and workflow.state == "running")
    if runs is not None:
        stages = planned_stages(stages, runs, results, workflow)
    mark_by_jobs(stages, workflow)
    if runs is None:
        return Look(stages=stages, workflow=workflow)
    # a running workflow makes them, and the commands are for the folder in which it runs
    ended = workflow is None or workflow.state != "running"
    lost = lost_outputs(runs, results) if ended and lexical(root) == lexical(Path()) else []
    return Look(stages=stages, workflow=workflow, shared=list(shared_lines(runs)), lost=list(map(str, lost)))


def as_json(seen: Look) -> str:
    """Write everything as one line of JSON."""
    workflow = seen.workflow
    record: dict[str, Any] = {"time": round(time.time(), 3), "stages": [asdict(stage) for stage in seen.stages]}
    record["workflow"] = None if workflow is None else {**asdict(workflow), "states": states(workflow)}
    seconds, unknown = time_left(seen.stages)
    record["seconds_left"] = None if unknown else seconds
    record["lost"] = seen.lost
    return json.dumps(record)


def as_text(seen: Look, results: Path) -> Iterator[str]:
    """Write it for people, line by line."""
    workflow = seen.workflow
    if workflow is not None:
        yield from _workflow_lines(workflow)
    else:
        yield f"no log of Snakemake beside {results}: the stages were started by hand"
    if seen.stages:
        yield ""
        yield from _table([HEADER, *map(_row, seen.stages)])
        yield from _left_lines(seen.stages)
    yield from seen.shared[:MAX_JOBS]
    if len(seen.shared) > MAX_JOBS:
        yield f"and {len(seen.shared) - MAX_JOBS} more such lines"
    yield from seen.lost[:MAX_JOBS]
    if len(seen.lost) > MAX_JOBS:
        yield f"and {len(seen.lost) - MAX_JOBS} more such lines"
    if workflow is not None:
        yield from _job_lines("running", workflow.having("running"))
        yield from _job_lines("in the queue", workflow.having("queued"))
        yield from _failures(workflow.having("failed"))


def _left_lines(stages: Sequence[Stage]) -> Iterator[str]:
    """Say how long all trainings still take, and on whose word others run."""
    seconds, unknown = time_left(stages)
    names = ", ".join(f"{stage.stage} of {stage.experiment}" for stage in unknown[:MAX_JOBS])
    without = f", without {names}{', ...' if len(unknown) > MAX_JOBS else ''}, not timed yet" if unknown else ""
    if seconds:
        yield f"trainings left, one after another: about {duration(seconds)}{without}"
    for stage in stages:
        if stage.state == "failed" and stage.checkpoint_step is not None:
            saved = f"step {stage.checkpoint_step:,} of {stage.stage} of {stage.experiment} is saved"
            yield f"{saved}: without the cause of the failure, {GOES_ON} from there"
        if stage.discriminator and stage.state == "running":
            figures = ", ".join(f"{name} {value:.3g}" for name, value in stage.discriminator.items())
            yield f"discriminator in {stage.stage} of {stage.experiment}: {figures}"
        if stage.host:
            silent = duration(stage.silent)
            yield f"{stage.stage} of {stage.experiment} runs on {stage.host}, by its log, last written {silent} ago"


HEADER = ("run", "stage", "state", "step", "loss", "held out", "frames/s", "left", "last checkpoint")


def _held_out(stage: Stage) -> str:
    """Write the last validation, what it is of, and what compares between stages: the distance to the spatial VAE."""
    parts = [f"{name} {value:.4g}" for name, value in (stage.valid or {}).items()]
    if stage.valid and "psnr" in stage.valid and stage.spatial_psnr is not None:
        parts.append(f"({stage.valid['psnr'] - stage.spatial_psnr:+.2f} to spatial)")
    if parts and stage.windows is not None:
        shortest, longest = stage.windows["shortest"], stage.windows["longest"]
        parts.append(f"{stage.windows['count']}x{shortest if shortest == longest else f'{shortest}-{longest}'} frames")
    return " ".join(parts)


def _row(stage: Stage) -> tuple[str, ...]:
    steps = MISSING if stage.steps is None else f"{stage.steps:,}"
    share = (
        f" ({100 * stage.step / stage.steps:.0f} %)" if stage.steps and stage.state not in ("done", "outdated") else ""
    )
    left = duration(stage.seconds_left) if stage.state == "running" else ""
    if stage.state in ("done", "outdated"):
        left = f"took {duration(stage.seconds)}"
    elif stage.state != "running" and stage.silent is not None:
        left = f"silent for {duration(stage.silent)}"
    saved = ""
    if stage.checkpoint_step is not None and stage.state != "done":
        saved = f"step {stage.checkpoint_step:,}, {duration(stage.checkpoint_age)} ago"
    return (
        stage.experiment,
        stage.stage,
        stage.state,
        f"{stage.step:,}/{steps}{share}",
        MISSING if stage.loss is None else f"{stage.loss:.4g}",
        _held_out(stage),
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
        unlock = "`--unlock` removes the lock that it left, then " if workflow.locked else ""
        yield f"Snakemake was ended; {unlock}{GOES_ON}"
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
