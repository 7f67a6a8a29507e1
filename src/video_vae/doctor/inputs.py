"""The files and folders that the runs of a config read: which are missing, and what to do. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from video_vae.config import Config, Model, Spatial, parse_config
from video_vae.config.runs import Runs, data_owner
from video_vae.config.slices import data_slice
from video_vae.config.types import PACKAGE_FILES, address_scheme
from video_vae.data.codecs import lack
from video_vae.data.fit import unfit
from video_vae.data.table import manifest_rows
from video_vae.errors import UserError
from video_vae.files import absence
from video_vae.provenance import RECORD
from video_vae.weights.files import KINDS, find_model

Lost = tuple[str, str]
"""A key of the config, and what is wrong with the path that it holds."""


def check_inputs(runs: Runs, results: Path) -> None:
    """Check that everything that the runs of a config read is there.

    Snakemake does not: it accepts existing results although their inputs are gone.

    Args:
        runs: the runs of the config.
        results: their results folder, which tells what was made of sources that were moved away.

    Raises:
        UserError: which names each missing thing in a line of its own, with its key.
    """
    lines = missing_inputs(runs, results)
    if lines:
        raise UserError("\n".join(lines))


def missing_inputs(runs: Runs, results: Path) -> list[str]:
    """Return a line for each file and folder that the runs read and that is not there, with its key and the cure."""
    seen: set[Lost] = set()
    lines = []
    for number, (name, run) in enumerate(runs.items()):
        clips = lost_sources(run, results / data_owner(runs, name) / "data")
        for key, text in (
            *clips,
            *lost_weights(run),
            *lost_rivals(run),
            *lost_metric_weights(run),
            *unfit_clips(run, results / data_owner(runs, name) / "data"),
        ):
            if (key, text) not in seen:
                lines.append(f"experiments.{name}.{key}: {text}" if number else f"{key}: {text}")
            seen.add((key, text))
    return lines


def lost_sources(run: Config, made: Path) -> Iterator[Lost]:
    """Yield what is missing of a run's clips.

    Args:
        run: its settings.
        made: folder of its manifest, which sources that were moved away must have been listed in.
    """
    lost = list(_lost_clips(run, made.parents[2] / "resources"))
    listed = bool(lost) and _listed_with(run, made)
    for key, text, cure in lost:
        if not run.data.archived:
            archived = ", or set data.archived: true where it was moved away after the run" if listed else ""
            yield key, f"{text}; {cure}{archived}"
        elif not listed:
            put = "put it back, or name what was listed"
            yield "data.archived", f"{text}, and {made} was not made with these settings; {put}"
    root = run.data.root
    if root is not None and not run.data.archived and not Path(root).is_dir():
        yield "data.root", f"{root} {absence(root) or 'is not a folder'}; correct the path, or set null"


def _lost_clips(run: Config, resources: Path) -> Iterator[tuple[str, str, str]]:
    """Yield what is gone of the sources, and of packages since they were fetched: key, text, cure."""
    for source in run.data.sources:
        if lost := absence(source):
            yield "data.sources", f"{source} {lost}", "correct the path"
    for folder in (resources / name for name in run.data.packages):
        try:
            names = list(json.loads((folder / PACKAGE_FILES).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue  # it is fetched by the run
        gone = [str(folder / name) for name in names if not (folder / name).exists()]
        if gone:
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            cure = f"delete {folder / PACKAGE_FILES}, then they are fetched again"
            yield "data.packages", f"{gone[0]}{more} is gone since it was fetched", cure


def _listed_with(run: Config, made: Path) -> bool:
    """Tell whether a manifest was made with a run's settings."""
    try:
        record = json.loads((made / RECORD).read_text(encoding="utf-8"))
        return data_slice(parse_config(record["config"])) == data_slice(run)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False


def lost_weights(run: Config) -> Iterator[Lost]:
    """Yield what is missing on this machine of the weights that a run starts with: a video VAE, or a spatial VAE."""
    key, source = ("spatial", run.spatial) if run.model.pretrained is None else ("model", run.model)
    yield from _lost_net(source, f"{key}.pretrained", f"{key}.subfolder", KINDS[key])


def lost_rivals(run: Config) -> Iterator[Lost]:
    """Yield what is missing of the rivals on this machine; what their videos hold is the jobs' business."""
    for name, rival in run.compare.items():
        key = f"compare.{name}"
        if rival.codec is not None and (why := lack(rival.codec)):
            yield f"{key}.codec", f"{why}; or set compare.{name}: null"
        elif rival.net is not None:
            yield from _lost_net(rival.net, f"{key}.spatial", f"{key}.subfolder")
        elif rival.videos is not None and not Path(rival.videos).is_dir():
            lost = absence(rival.videos) or "is not a folder"
            yield f"{key}.videos", f"{rival.videos} {lost}; correct the path, or set compare.{name}: null"


def _lost_net(source: Spatial | Model, named: str, below: str, kind: str = KINDS["spatial"]) -> Iterator[Lost]:
    """Yield what is missing of a net of some kind; its keys in the config are given."""
    place, given = source.place, source.given
    if place is None or given is None:
        return
    if lost := absence(given):
        yield named, f"{given} {lost}; name a folder, a weights file, or a model on a hub (OWNER/NAME)"
    elif lost := absence(place):
        yield below, f"{place} {lost}; correct it, or set null"
    else:
        try:
            find_model(place, kind)
        except (UserError, OSError) as error:
            yield named, str(error)


def unfit_clips(run: Config, made: Path) -> Iterator[Lost]:
    """Yield what is wrong with a run's held-out clips for the protocol that it names, where they are listed already."""
    table = made / "test.csv"
    if run.evaluation.protocol is not None and table.is_file():
        problem = unfit(run, manifest_rows(table) or [])
        if problem:
            yield "evaluation.protocol", problem


def lost_metric_weights(run: Config) -> Iterator[Lost]:
    """Yield what is missing of the weights of metrics that a config names by local files."""
    for key in ("flow_weights", "fvd_weights"):
        file = getattr(run.evaluation, key)
        if file is not None and not address_scheme(file) and not Path(file).is_file():
            yield f"evaluation.{key}", f"{file} {absence(file) or 'is not a file'}; correct the path"
