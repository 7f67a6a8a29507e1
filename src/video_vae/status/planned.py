"""What a workflow plans: the stages of all runs of its config, those too that wait or that are to be trained again.

Snakemake's log names rules and files, not settings: so the workflow notes its config when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from video_vae.config import STAGES, Config, StageName, load_merged, parse_config
from video_vae.config.runs import Runs, resolve, spatial_owner, stage_owner
from video_vae.config.slices import spatial_slice
from video_vae.errors import UserError
from video_vae.provenance import write_json_atomic
from video_vae.status.jobs import Workflow
from video_vae.status.outdated import finished_state, made_as
from video_vae.status.stages import Stage

PLANS = Path(".snakemake", "video-vae", "plans")


def write_plan(results: Path, config: Config, files: Sequence[str], given: Mapping[str, Any]) -> None:
    """Note the config of a run of Snakemake that starts here; nothing where another run has the folder.

    Args:
        results: its results, relative to the folder that it runs in.
        config: its settings.
        files: the files that they are all from, with what the command line gives; empty where they are not.
        given: settings of the command line.
    """
    if any(Path(".snakemake", "locks").glob("*")):
        return
    note = {"files": list(files), "given": dict(given), "config": config.model_dump(mode="json")}
    with suppress(OSError):  # a folder that takes no files can still be looked at
        write_json_atomic(_file(Path(), results), note)


def _file(root: Path, results: Path) -> Path:
    return root / PLANS / f"{quote(str(results), safe='')}.json"


def read_plan(root: Path, results: Path, *, running: bool) -> Runs | None:
    """Return the runs of the last run of Snakemake; of its config files as they are now, where it does not run."""
    try:
        note = json.loads(_file(root, results).read_text(encoding="utf-8"))
        if note["files"] and not running:
            try:
                return resolve(load_merged([root / file for file in note["files"]], note["given"]))
            except UserError:  # being edited, or gone
                pass
        return resolve(parse_config(note["config"]))
    except (OSError, ValueError, KeyError, TypeError, UserError):  # none, or of another version
        return None


def planned_stages(begun: Sequence[Stage], runs: Runs, results: Path, workflow: Workflow | None) -> list[Stage]:
    """List all stages that are planned, in the order of the runs, then what else was begun.

    A stage counts once, at the run that trains it. One that waits for its training is `waiting`; one that is there but
    not as the config says, or made from what is not, is `outdated`.
    """
    known = {(stage.experiment, stage.stage): stage for stage in begun}
    rows: dict[tuple[str, str], Stage] = {}
    for name, stage in _trained(runs):
        row = known.pop((name, stage), None)
        if row is None:
            steps = runs[name].stages.of(stage).steps
            row = Stage(experiment=name, stage=stage, state="waiting", steps=steps)
        trained = runs[name].stages.trained
        before = trained[: trained.index(stage)]
        sources = [rows[stage_owner(runs, name, part), part] for part in before]
        current = all(source.state == "done" for source in sources) and _is_current(results, runs, name, stage)
        if row.state == "done" and not current:
            row.state = "outdated"
        rows[name, stage] = row
    _mark_repeated(list(rows.values()), workflow)
    return [*rows.values(), *known.values()]


def _trained(runs: Runs) -> Iterator[tuple[str, StageName]]:
    """Yield each stage that a run trains itself, up to the last one that is scored."""
    for name, run in runs.items():
        yield from ((name, stage) for stage in run.needed if stage_owner(runs, name, stage) == name)


def _is_current(results: Path, runs: Runs, name: str, stage: StageName) -> bool:
    if finished_state(results, runs, name, stage) is None:
        return False
    if runs[name].spatial.pretrained is not None:
        return True
    return made_as(results / spatial_owner(runs, name) / "spatial", spatial_slice, runs[name])


def _mark_repeated(rows: Sequence[Stage], workflow: Workflow | None) -> None:
    """Call stages outdated that a running workflow plans to train for a reason that no record tells, such as new clips.

    Its log counts the jobs of a rule and names only those that have started.
    """
    if workflow is None or workflow.state != "running":
        return
    for stage in STAGES:
        jobs = [job for job in workflow.jobs if job.rule.endswith(f"train_{stage}")]
        started = {job.wildcards.get("experiment") for job in jobs}
        planned = sum(count for rule, count in workflow.planned.items() if rule.endswith(f"train_{stage}"))
        waiting = [row for row in rows if row.stage == stage and row.experiment not in started]
        done = [row for row in waiting if row.state == "done"]
        if planned - len(started) >= len(waiting):
            for row in done:
                row.state = "outdated"


def mark_by_jobs(stages: Sequence[Stage], workflow: Workflow | None) -> None:
    """Call stages running or failed whose job is, where their own logs cannot tell: at its start, or after its end."""
    marks = {("running", "waiting"): "running", ("running", "stopped"): "running", ("failed", "stopped"): "failed"}
    for job in workflow.jobs if workflow is not None else []:
        for stage in stages:
            ours = job.rule.endswith(f"train_{stage.stage}") and job.wildcards.get("experiment") == stage.experiment
            stage.state = marks.get((job.state, stage.state), stage.state) if ours else stage.state


def shared_lines(runs: Runs) -> Iterator[str]:
    """Say which stages runs take from others instead of training them."""
    for name, run in runs.items():
        taken: dict[str, list[str]] = {}
        for stage in run.stages.trained:
            owner = stage_owner(runs, name, stage)
            if owner != name:
                taken.setdefault(owner, []).append(stage)
        for owner, stages in taken.items():
            yield f"{name} takes {', '.join(stages)} of {owner}"


def time_left(stages: Sequence[Stage]) -> tuple[float, list[Stage]]:
    """Return the seconds that all trainings still take, one after another, and those of which that is not known."""
    speeds = {stage.stage: stage.step_seconds for stage in stages if stage.step_seconds is not None}
    total, unknown = 0.0, []
    for stage in stages:
        if stage.state == "done":
            continue
        seconds = speeds.get(stage.stage) if stage.step_seconds is None else stage.step_seconds
        if seconds is None or stage.steps is None:
            unknown.append(stage)
        else:
            taken = 0 if stage.state == "outdated" else stage.step
            total += max(0, stage.steps - taken) * seconds
    return total, unknown
