"""Reconstruct a video, or measure on clips.

`reconstruct VIDEO --model DIR` writes NAME_rec.mp4 (without sound): all frames, at the video's own size, in memory that
does not grow with its length, and prints its PSNR. --output names another .mp4, or an .mkv, which is lossless.

`reconstruct CONFIG --ckpt-path DIR --data-path CLIPS --save-dir NAME` makes what is measured: NAME_ori (the source
after crop and resize), NAME_rec (the whole pipeline), NAME_spatial. Every clip is stored losslessly under its clip id,
with H.264 previews in NAME_preview; of a long clip several windows are made (reconstruction.windows), the further ones
named CLIP@START by their first frame. Under torchrun the ranks split the clips; a run that was cut off goes on with the
clips it lacks; NAME_* then hold exactly the clips of the table. Posteriors give their mode, so the results are
deterministic, unless --sample is given. Images in the table are left out unless --images is given. --baselines needs no
trained net: NAME_mean (the clip's average frame) and NAME_repeat (every fourth spatial latent, held) instead of
NAME_rec and NAME_spatial.
"""

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

from video_vae.cli import main_for
from video_vae.config import Config, load_config
from video_vae.data.content import gone
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
from video_vae.reconstruction import one_video
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.reconstruction.clips import ClipReconstructor
from video_vae.reconstruction.index import FAILED_COLUMNS, OutputPaths, index_columns, write_failed, write_index
from video_vae.reconstruction.options import check_form, set_cuts, with_options
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `reconstruct`."""
    both = "a video, with --model; otherwise a YAML file, or the settings as JSON text"
    parser.add_argument("config", metavar="VIDEO|CONFIG", help=both)
    parser.add_argument("--model", type=Path, help="with a video: model folder, or a file of published weights")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="with a video: .mp4 or .mkv to write [NAME_rec.mp4]"
    )
    parser.add_argument("--ckpt-path", type=Path, help="model folder, or a weights file with the published names")
    parser.add_argument("--data-path", type=Path, help="clips: a table, a folder, a file")
    parser.add_argument("--save-dir", type=Path, metavar="NAME", help="NAME_ori, NAME_rec ... are written")
    parser.add_argument("--baselines", action="store_true", help="make the trivial baselines; needs no --ckpt-path")
    parser.add_argument("--spatial", type=Path, help="folder of the spatial VAE [the one that the config names]")
    parser.add_argument("--sample", action="store_true", help="draw from the posteriors, seeded by seed and clip id")
    parser.add_argument("--overlap-frames", type=int, metavar="N", help="frames that chunks share, blended [config]")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of the tiles for large frames [config]")
    parser.add_argument("--tile-overlap", type=int, metavar="PIXELS", help="what tiles share, blended [config]")
    parser.add_argument("--windows", type=int, metavar="N", help="most windows of a clip [config]")
    parser.add_argument("--images", action="store_true", help="reconstruct images too, as clips of one frame")
    parser.add_argument("--no-previews", dest="previews", action="store_false", help="write no NAME_preview")
    parser.add_argument("--shard", type=int, default=0, help="which shard of the clips to make, from 0")
    parser.add_argument("--shards", type=int, default=1, help="into how many shards the clips are split")
    parser.add_argument("--index", type=Path, help="list of the clips made [NAME/index.csv]")
    parser.add_argument("--strict", action="store_true", help="fail if any clip failed, not only if all did")
    whole = "fail and write no list if a clip's file is missing or changed; what does not decode is listed as failed"
    parser.add_argument("--require-files", action="store_true", help=whole)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> None:
    """Reconstruct one video, or this rank's clips; the first rank lists what all made."""
    # exact arithmetic on GPUs too: measured results must not depend on the card's short cuts
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    check_form(args)
    (_reconstruct_clips if args.model is None else one_video.run)(args)


def _reconstruct_clips(args: argparse.Namespace) -> None:
    """Reconstruct this rank's clips of a table."""
    started = time.time()
    config = with_options(load_config(args.config), args)
    table = [clip for clip in read_table(args.data_path, config.data.columns) if args.images or clip.kind == "video"]
    if not table:
        raise UserError(f"{args.data_path} holds no video; give one that does, or --images for its images")
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
    variants, settings = (_baselines if args.baselines else _model)(args, config, ranks.device)
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
    seed = config.seed if args.sample or config.reconstruction.sample else None
    names = ("scaling_factor", "chunk_frames", "spatial", "temporal")
    settings = {
        "weights_sha256": weights_sha256(model.state_dict()),
        "spatial_sha256": weights_sha256(model.spatial.state_dict()),
        "sample_seed": seed,
        "architecture": {name: _plain(model.config[name]) for name in names},
    }
    settings |= set_cuts(config, model, max(config.data.resolution))
    model.to(device).spatial.to(memory_format=torch.channels_last)
    overlap = config.reconstruction.overlap_frames
    return ModelVariants(model=model, device=device, seed=seed, overlap=overlap), settings


def _baselines(args: argparse.Namespace, config: Config, device: torch.device) -> tuple[Variants, dict[str, Any]]:
    net: Any = load_spatial(config.spatial, args.spatial)
    net.float().eval().requires_grad_(False)
    chunk = config.model.chunk_frames
    settings = {"spatial_sha256": weights_sha256(net.state_dict()), "hold": HOLD, "chunk_frames": chunk}
    net.to(device, memory_format=torch.channels_last)
    return BaselineVariants(spatial=net, device=device, hold=HOLD, chunk_frames=chunk), settings


def _plain(value: Any) -> Any:
    """Strip what the library notes in a config for itself (version, origin): the same net keeps its fingerprint."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if not key.startswith("_")}
    return value


def _check_places(args: argparse.Namespace, reconstructor: ClipReconstructor, clips: Sequence[Clip]) -> None:
    """Refuse what others put where the clips and their lists go, before any is made."""
    index = _index(args)
    lists = {index: index_columns(reconstructor.variants.names), beside(index, "failed.csv"): FAILED_COLUMNS}
    check_places({**lists, beside(index, RECORD): RECORD_TRAITS})
    for clip in clips:
        reconstructor.paths.check_places(clip.clip_id)


def _discard_others(paths: OutputPaths, table: Sequence[Clip]) -> None:
    others = paths.discard_others(clip.clip_id for clip in table)
    if others:
        log.info("removed %d clips of an earlier run that are not in the table, such as %s", len(others), others[0])


def _make_clips(reconstructor: ClipReconstructor, clips: Sequence[Clip], ranks: Ranks) -> Outcome:
    """Make this rank's clips; a bad one is noted, and the others go on."""
    outcome = Outcome()
    total = sum(reconstructor.count(clip) for clip in clips)
    desc = "reconstruct" if not ranks.is_distributed else f"reconstruct (rank {ranks.rank} of {ranks.world_size})"
    with progress(total=total, desc=desc, unit="frames") as bar:
        for clip in clips:
            row = reconstructor.paths.kept(clip.clip_id, reconstructor.fingerprint(clip))
            if row is not None:
                outcome.kept += 1
                bar.update(reconstructor.count(clip))
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
    wanting = args.require_files and outcome.gone  # a list without them would pass for the whole table's
    if not wanting and (rows or not clips or args.shards > 1):
        write_index(index, reconstructor.variants.names, rows)
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
    inputs = {"table": args.data_path, "checkpoint": args.ckpt_path, "spatial": args.spatial}
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


def _written(
    args: argparse.Namespace, reconstructor: ClipReconstructor, outcome: Outcome
) -> dict[str, Path | Part | None]:
    """List what was made: the lists, the clips of each variant and their previews."""
    index, paths = _index(args), reconstructor.paths
    folders: dict[Path, list[str]] = {}
    for file in (file for clip_id in outcome.rows for file in paths.files(clip_id)):
        folders.setdefault(file.parent, []).append(file.name)
    lists = {"index": index if index.exists() else None, "failed": beside(index, "failed.csv")}
    return lists | {folder.name: Part(folder, names) for folder, names in folders.items()}


def _index(args: argparse.Namespace) -> Path:
    index: Path = args.index or args.save_dir / "index.csv"
    return index


def _judge(outcome: Outcome, clips: int, args: argparse.Namespace) -> None:
    """Fail where nothing succeeded; one shard of several knows too little of the others to say so."""
    if args.require_files and outcome.gone:
        raise UserError(next(iter(outcome.gone.values())))
    failed = len(outcome.failed)
    nothing = failed == clips and args.shards == 1
    if failed and (args.strict or nothing):
        name, reason = next(iter(outcome.failed.items()))
        share = "no clip could" if failed == clips else f"{failed} of {clips} clips could not"
        lists = beside(_index(args), "failed.csv")
        raise UserError(f"{share} be reconstructed, such as {name} ({reason}); {lists} says why")


if __name__ == "__main__":
    raise SystemExit(main_for("reconstruct"))
