"""Reconstruct the clips of a table on all ranks, and list what was made."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from video_vae.config import Config, load_config
from video_vae.config.protocols import scored_as
from video_vae.data.content import gone
from video_vae.data.fit import check_fit
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.storage import STORAGE
from video_vae.data.table import Clip, beside
from video_vae.data.video import MediaError
from video_vae.data.windows import cut_windows
from video_vae.distributed.ranks import Ranks, started_ranks
from video_vae.errors import UserError
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.progress import progress
from video_vae.provenance import RECORD, Part, run_record, write_json_atomic
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.reconstruction.clips import ClipReconstructor
from video_vae.reconstruction.codecs import codec_rival
from video_vae.reconstruction.index import FAILED_COLUMNS, OutputPaths, index_columns, write_failed, write_index
from video_vae.reconstruction.options import set_chunks, set_cuts, with_options
from video_vae.reconstruction.quantised import QuantisedVariants
from video_vae.reconstruction.rates import COLUMNS, RATES, write_rates
from video_vae.reconstruction.rivals import SpatialRival, given_videos
from video_vae.reconstruction.tiling import tiling_error
from video_vae.reconstruction.variants import BaselineVariants, ModelVariants, Variants
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_spatial

log = logging.getLogger(__name__)

TIMEOUT = timedelta(days=7)
"""Ranks wait for the slowest one, however long its clips are."""
HOLD = 4
"""Frames that share one latent of the baseline `repeat`: what the temporal VAE spends."""


@dataclass
class Outcome:
    """What one rank did."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    """Those of the failed clips whose file is missing or changed, and what to do."""
    kept: int = 0
    frames: int = 0


def run(args: argparse.Namespace) -> None:
    """Reconstruct this rank's clips; the first rank lists what all made."""
    started = time.time()
    config = with_options(scored_as(load_config(args.config)), args)
    table = [clip for clip in read_table(args.data_path, config.data.columns) if args.images or clip.kind == "video"]
    if not table:
        raise UserError(f"{args.data_path} holds no video; give one that does, or --images for its images")
    check_fit(config, table)
    wanted = config.reconstruction
    table = list(cut_windows(table, wanted.windows, wanted.max_frames, Sampling.of(config.data)))
    if not 0 <= args.shard < args.shards:
        raise UserError(f"--shard {args.shard} of --shards {args.shards}: shards count from 0 to {args.shards - 1}")
    clips = table[args.shard :: args.shards]
    with started_ranks(args.device, TIMEOUT) as ranks:
        reconstructor = _maker(args, config, ranks)
        if ranks.is_main:
            _check_places(args, reconstructor, clips)
        if ranks.is_main and args.shard == 0:
            _discard_others(reconstructor.paths, table)
        outcome = _merged(ranks.gather(_make_clips(reconstructor, clips[ranks.rank :: ranks.world_size], ranks)))
        if ranks.is_main:
            _write_lists(args, reconstructor, clips, outcome)
            _write_record(args, config, reconstructor, clips, outcome, started)
    if ranks.is_main:
        _judge(outcome, len(clips), args)


def _maker(args: argparse.Namespace, config: Config, ranks: Ranks) -> ClipReconstructor:
    make = _rival if args.rival is not None else _baselines if args.baselines else _model
    variants, settings = make(args, config, ranks.device)
    return ClipReconstructor(
        variants=variants,
        paths=OutputPaths(name=args.save_dir, variants=variants.names, previews=args.previews),
        resolution=config.data.resolution,
        zoom=config.data.zoom,
        sampling=Sampling.of(config.data),
        max_frames=config.reconstruction.max_frames,
        settings=settings,
    )


def _model(args: argparse.Namespace, config: Config, device: torch.device) -> tuple[Variants, dict[str, Any]]:
    if args.ckpt_path is None:
        raise UserError("--ckpt-path is missing: give a model folder or a weights file (or --baselines)")
    model: Any = load_checkpoint(args.ckpt_path, config, args.spatial)
    set_chunks(config, model)
    seed = config.seed if args.sample or config.reconstruction.sample else None
    names = ("scaling_factor", "chunk_frames", "spatial", "temporal")
    settings: dict[str, Any] = {
        "weights_sha256": weights_sha256(model.state_dict()),
        "spatial_sha256": weights_sha256(model.spatial.state_dict()),
        "sample_seed": seed,
        "architecture": {name: _plain(model.config[name]) for name in names},
    }
    settings |= {"latent_bits": list(bits)} if (bits := config.reconstruction.latent_bits) else {}
    settings |= set_cuts(config, model, max(config.data.resolution))
    model.to(device).spatial.to(memory_format=torch.channels_last)
    wanted = config.reconstruction
    how: dict[str, Any] = {"model": model, "device": device, "seed": seed, "overlap": wanted.overlap_frames}
    if wanted.quantised is None:
        return ModelVariants(**how), settings
    how["names"] = (*ModelVariants.names, wanted.quantised)
    return QuantisedVariants(**how, latent_bits=wanted.latent_bits), settings


def _baselines(args: argparse.Namespace, config: Config, device: torch.device) -> tuple[Variants, dict[str, Any]]:
    net: Any = load_spatial(config.spatial, args.spatial)
    net.float().eval().requires_grad_(False)
    chunk = config.chunk_frames
    settings = {"spatial_sha256": weights_sha256(net.state_dict()), "hold": HOLD, "chunk_frames": chunk}
    net.to(device, memory_format=torch.channels_last)
    return BaselineVariants(spatial=net, device=device, hold=HOLD, chunk_frames=chunk), settings


def _rival(args: argparse.Namespace, config: Config, device: torch.device) -> tuple[Variants, dict[str, Any]]:
    name = args.rival
    rival = config.compare.get(name)
    if rival is None:
        raise UserError(f"--rival {name}: no such name under compare; known: {', '.join(config.compare) or 'none'}")
    if rival.videos is not None:
        return given_videos(name, Path(rival.videos)), {"rival": name}
    if rival.codec is not None:
        return codec_rival(name, rival.codec, config)
    spatial = rival.net or config.spatial
    net: Any = load_spatial(spatial, spatial.place, key=f"compare.{name}")
    net.float().eval().requires_grad_(False)
    settings = {"rival": name, "spatial_sha256": weights_sha256(net.state_dict())}
    net.to(device, memory_format=torch.channels_last)
    return SpatialRival(spatial=net, device=device, names=("ori", name)), settings


def _plain(value: Any) -> Any:
    """Strip what the library notes in a config for itself (version, origin): the same net keeps its fingerprint."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if not key.startswith("_")}
    return value


def _check_places(args: argparse.Namespace, reconstructor: ClipReconstructor, clips: Sequence[Clip]) -> None:
    """Refuse what others put where the clips and their lists go, before any is made."""
    index = _index(args)
    lists = {index: index_columns(reconstructor.variants.names), beside(index, "failed.csv"): FAILED_COLUMNS}
    lists |= {beside(index, RATES): COLUMNS}
    check_places({**lists, beside(index, RECORD): RECORD_TRAITS})
    for clip in clips:
        reconstructor.paths.check_places(clip.clip_id)


def _discard_others(paths: OutputPaths, table: Sequence[Clip]) -> None:
    others = paths.discard_others(clip.clip_id for clip in table)
    if others:
        log.info("removed %d clips of an earlier run that are not in the table, such as %s", len(others), others[0])


def _make_clips(reconstructor: ClipReconstructor, clips: Sequence[Clip], ranks: Ranks) -> Outcome:
    """Make this rank's clips; a bad one is noted, and the others go on."""
    outcome = Outcome(failed=reconstructor.misfits(clips))
    if outcome.failed:  # nothing is scored before all fit
        return outcome
    total = sum(reconstructor.count(clip) for clip in clips)
    desc = "reconstruct" if not ranks.is_distributed else f"reconstruct (rank {ranks.rank} of {ranks.world_size})"
    with progress(total=total, desc=desc, unit="frames") as bar:
        for clip in clips:
            row = reconstructor.paths.kept(clip.clip_id, reconstructor.fingerprint(clip))
            if row is not None:
                outcome.kept += 1
                bar.skip(reconstructor.count(clip))
            else:
                row = _make(reconstructor, clip, outcome, bar)
            if row is not None:
                outcome.rows[clip.clip_id] = {**row, "source": clip.path}
    return outcome


def _make(reconstructor: ClipReconstructor, clip: Clip, outcome: Outcome, bar: Any) -> dict[str, str] | None:
    try:
        row = reconstructor.make(clip, bar.update)
    except (MediaError, UserError) as error:
        log.warning("%s (%s) failed: %s", clip.clip_id, clip.path, error)
        outcome.failed[clip.clip_id] = str(error)
        if isinstance(error, MediaError) and error.gone:
            outcome.gone[clip.clip_id] = gone(clip.path, str(error))
        return None
    outcome.frames += int(row["frames"])
    return row


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    merged = Outcome()
    for outcome in outcomes:
        merged.rows |= outcome.rows
        merged.failed |= outcome.failed
        merged.gone |= outcome.gone
        merged.kept += outcome.kept
        merged.frames += outcome.frames
    return merged


def _write_lists(
    args: argparse.Namespace, reconstructor: ClipReconstructor, clips: Sequence[Clip], outcome: Outcome
) -> None:
    index = _index(args)
    rows = [outcome.rows[clip.clip_id] for clip in clips if clip.clip_id in outcome.rows]
    failed = [
        {"clip_id": clip.clip_id, "path": clip.path, "reason": outcome.failed[clip.clip_id]}
        for clip in clips
        if clip.clip_id in outcome.failed
    ]
    write_failed(beside(index, "failed.csv"), failed)
    # a list without them would pass for the whole table's
    wanting = (args.require_files and outcome.gone) or (args.rival is not None and outcome.failed)
    if not wanting and (rows or not clips or args.shards > 1):
        write_index(index, reconstructor.variants.names, rows)
        rates = {row["clip_id"]: reconstructor.paths.rates(row["clip_id"]) for row in rows}
        if any(rates.values()):
            write_rates(beside(index, RATES), rates)
        else:
            beside(index, RATES).unlink(missing_ok=True)
    else:
        index.unlink(missing_ok=True)


def _tiling(reconstructor: ClipReconstructor, clips: Sequence[Clip]) -> dict[str, Any]:
    """Measure what tiles change, for the record; empty where frames are taken whole."""
    variants = reconstructor.variants
    if not isinstance(variants, ModelVariants) or variants.model.tiling is None:
        return {}
    error = tiling_error(reconstructor, variants, variants.model.tiling, clips)
    if error:
        said = error["psnr_to_untiled"]
        log.info("tiles against whole frames, on a sample: %s", "equal" if said is None else f"{said} dB")
    return {"tiling_error": error}


def _write_record(
    args: argparse.Namespace,
    config: Config,
    reconstructor: ClipReconstructor,
    clips: Sequence[Clip],
    outcome: Outcome,
    started: float,
) -> None:
    inputs: dict[str, Path | Part | None] = {"table": args.data_path, "checkpoint": args.ckpt_path}
    inputs |= {"spatial": args.spatial, **_read_of_rival(args, config, reconstructor, outcome)}
    seconds = time.time() - started
    record = run_record(
        "reconstruct",
        config,
        {name: path for name, path in inputs.items() if path is not None},
        outputs=_written(args, reconstructor, outcome),
        started=started,
        settings=reconstructor.settings,
        storage=STORAGE,
        clips=len(outcome.rows),
        kept=outcome.kept,
        failed=outcome.failed,
        frames_made=outcome.frames,
        frames_per_s=round(outcome.frames / seconds, 3),
        **_tiling(reconstructor, clips),
    )
    write_json_atomic(beside(_index(args), RECORD), record)


def _read_of_rival(
    args: argparse.Namespace, config: Config, reconstructor: ClipReconstructor, outcome: Outcome
) -> dict[str, Any]:
    """List what was read of a rival: its videos, or the files of its net where they lie here."""
    if args.rival is None:
        return {}
    if reconstructor.given is not None:
        return {"videos": Part(reconstructor.given.folder, reconstructor.given.files(outcome.rows))}
    net = config.compare[args.rival].net
    return {"spatial": None if net is None else net.place}


def _written(
    args: argparse.Namespace, reconstructor: ClipReconstructor, outcome: Outcome
) -> dict[str, Path | Part | None]:
    """List what was made: the lists, the clips of each variant and their previews."""
    index, paths = _index(args), reconstructor.paths
    folders: dict[Path, list[str]] = {}
    for file in (file for clip_id in outcome.rows for file in paths.files(clip_id)):
        folders.setdefault(file.parent, []).append(file.name)
    lists = {"index": index if index.exists() else None, "failed": beside(index, "failed.csv")}
    lists |= {"rates": beside(index, RATES) if beside(index, RATES).exists() else None}
    return lists | {folder.name: Part(folder, names) for folder, names in folders.items()}


def _index(args: argparse.Namespace) -> Path:
    index: Path = args.index or args.save_dir / "index.csv"
    return index


def _judge(outcome: Outcome, clips: int, args: argparse.Namespace) -> None:
    """Fail where nothing succeeded; one shard of several knows too little of the others to say so."""
    if args.require_files and outcome.gone:
        raise UserError(next(iter(outcome.gone.values())))
    failed = len(outcome.failed)
    if args.rival is not None and failed:
        name, reason = next(iter(outcome.failed.items()))
        cure = "give one of each held-out window, as it lies in reconstruction_ori, or leave the rival out"
        raise UserError(
            f"compare.{args.rival}: {failed} of {clips} clips cannot be compared, such as {name}: {reason}; {cure} "
            f"({beside(_index(args), 'failed.csv')} lists all)"
        )
    nothing = failed == clips and args.shards == 1
    if failed and (args.strict or nothing):
        name, reason = next(iter(outcome.failed.items()))
        share = "no clip could" if failed == clips else f"{failed} of {clips} clips could not"
        lists = beside(_index(args), "failed.csv")
        raise UserError(f"{share} be reconstructed, such as {name} ({reason}); {lists} says why")
