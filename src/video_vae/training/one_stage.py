"""Train one stage, or go on with it, and write its outputs."""

from __future__ import annotations

import argparse
import logging
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from video_vae.config import Config, load_config
from video_vae.config.files import is_json
from video_vae.config.runs import resolve
from video_vae.distributed.ranks import started_ranks
from video_vae.distributed.stopping import GOES_ON
from video_vae.errors import UserError
from video_vae.provenance import recorded, run_record
from video_vae.training.checkpoint import CheckpointStore
from video_vae.training.export import check_places, export
from video_vae.training.journal import Journal
from video_vae.training.profiling import Profiler
from video_vae.training.setup import Inputs, Setup, set_up
from video_vae.training.tracking import asked_tracker
from video_vae.training.trainer import Trainer
from video_vae.weights.lpips_place import lpips_folder

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    """Train the stage, or go on with it, and write its outputs.

    Raises:
        SystemExit: with the status that says why, where the training is not done yet.
    """
    started, began = time.time(), time.monotonic()
    config = _config(args.config, args.experiment)
    deadline = _deadline(args, began)
    if args.profile < 0:
        raise UserError(f"--profile {args.profile}: give a number of steps")
    check_places(args.output)
    name = f"{args.experiment or config.experiment}/{args.stage}"
    tracker = asked_tracker(args.output, name, getattr(config.stages, args.stage).model_dump(mode="json"))
    inputs = _inputs(args)
    with started_ranks(args.device) as ranks:
        setup = set_up(config, args.stage, inputs, ranks)
        folder = (args.state or args.output.parent / "state") / args.stage / setup.fingerprint
        store = CheckpointStore(folder, setup.fingerprint, setup.task.stage.keep_checkpoints)
        journal = Journal(folder, args.output / "tensorboard", tracker) if ranks.is_main else Journal(None)
        log.info("%s: log and resume state lie in %s", args.stage, folder)
        with store.locked() if ranks.is_main else nullcontext():
            trainer = Trainer(setup.task, ranks, store, journal, deadline)
            trainer.profiler = Profiler(args.profile if ranks.is_main else 0, folder)
            try:
                status = trainer.train()
            finally:
                journal.close()
            if ranks.is_main and status is None:
                record = _record(args, config, inputs, setup, trainer, started)
                export(args.output, setup.task.loss.vae, trainer.optimization.average, journal, record)
    if status is not None:
        if ranks.is_main:
            log.warning("%s stopped at step %d; %s", args.stage, trainer.counters.step, GOES_ON)
        raise SystemExit(status)


def _inputs(args: argparse.Namespace) -> Inputs:
    return Inputs(
        train=args.data_path,
        valid=args.valid_path,
        latents=args.latents,
        prepared=args.prepared,
        spatial=args.spatial,
        lpips=args.lpips,
        init_from=args.init_from,
    )


def _deadline(args: argparse.Namespace, began: float) -> float | None:
    """Return the time on the monotonic clock by which to have stopped, or None."""
    ends = [] if args.max_hours is None else [began + 3600 * args.max_hours]
    ends += [] if args.end_by is None else [time.monotonic() + args.end_by - time.time()]
    return min(ends, default=None)


def _config(source: str, experiment: str | None) -> Config:
    config = load_config(source)
    runs = resolve(config)
    # Settings that the workflow wrote are one run's own; its name is then only a label.
    if experiment is None or (is_json(source) and not config.experiments):
        return runs[config.experiment]
    if experiment not in runs:
        raise UserError(f"--experiment {experiment}: {source} has {', '.join(runs)}")
    return runs[experiment]


def _record(
    args: argparse.Namespace, config: Config, inputs: Inputs, setup: Setup, trainer: Trainer, started: float
) -> dict[str, Any]:
    files = {"train": inputs.train, "valid": inputs.valid, "spatial": inputs.spatial, "init_from": inputs.init_from}
    used: dict[str, Path] = {name: path for name, path in files.items() if path is not None}
    if setup.task.loss.perceptual is not None:
        used["lpips"] = lpips_folder(inputs.lpips) / "vgg.safetensors"
    counters = trainer.counters
    record = run_record(
        "train",
        config,
        used,
        started=started,
        **setup.facts,
        experiment=args.experiment or config.experiment,
        fingerprint=setup.fingerprint,
        state=str(trainer.store.folder),
        device=str(trainer.ranks.device),
        starts=counters.starts,
        trained_seconds=round(counters.seconds, 3),
        drawn=counters.drawn,
        failed=counters.failed,
        skipped=counters.skipped,
        valid={name: value if math.isfinite(value) else None for name, value in trainer.validated.items()},
    )
    if setup.facts["cached_latents"]:
        record["inputs"] |= {f"latents_{number}": recorded(path) for number, path in enumerate(inputs.latents)}
    if setup.facts["prepared"]:
        record["inputs"] |= {f"prepared_{number}": recorded(path) for number, path in enumerate(inputs.prepared)}
    return record
