"""Score folders of clips against the originals on all ranks, and write the scores."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from video_vae.config import parse_config
from video_vae.config.types import FLOW_METRICS
from video_vae.data.frame_folders import frame_files
from video_vae.data.video import MediaError
from video_vae.distributed.ranks import Ranks, started_ranks
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.metrics.conditions import clip_sources, conditions, made_by, stated, wanted_clips
from video_vae.metrics.flow import load_flow
from video_vae.metrics.fvd import ClipFeatures, FeatureNet, clip_features, summarize_fvd
from video_vae.metrics.kept_scores import KeptScores
from video_vae.metrics.left_out import NAMED, left_out, unequal_lengths, unread_folders
from video_vae.metrics.pairing import Pair, Pairing, pair_clips, variant_names
from video_vae.metrics.peers import check_scores
from video_vae.metrics.reading import Source, View, open_source
from video_vae.metrics.scoring import ClipScores, Refused, score_clip
from video_vae.metrics.summary import clips_table, frames_table, summarize
from video_vae.metrics.tools import NETS, Tools
from video_vae.progress import progress
from video_vae.provenance import RECORD, Part, run_record, write_json_atomic
from video_vae.weights.lpips_place import lpips_folder

log = logging.getLogger(__name__)

TIMEOUT = timedelta(days=7)
"""Ranks wait for the slowest one, however long its clips are."""
DECIMALS = 6
FRAMES, CLIPS, SUMMARY = "frames.parquet", "clips.csv", "summary.json"


@dataclass
class Outcome:
    """What one rank scored."""

    scores: list[ClipScores] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    features: list[ClipFeatures] = field(default_factory=list)


def run(args: argparse.Namespace) -> None:
    """Score this rank's clips; the first rank gathers, summarizes and writes."""
    started = time.time()
    # the ranges are the config's
    parse_config({"evaluation": {name: getattr(args, name) for name in ("fvd_frames", "bootstrap")}}, "options")
    _check_places(args)
    # exact arithmetic on GPUs too: measured results must not depend on the card's short cuts
    torch.backends.cudnn.deterministic = True
    names = variant_names(args.generated_video_dir, args.variant)
    folders = dict(zip(names, args.generated_video_dir, strict=True))
    wanted = None if args.clips is None else wanted_clips(args.clips)
    pairing = pair_clips(args.real_video_dir, folders, wanted)
    with started_ranks(args.device, TIMEOUT) as ranks:
        if any(metric in NETS for metric in args.metric):
            args.lpips = ranks.broadcast(lpips_folder(args.lpips) if ranks.is_main else None)
        flow = partial(load_flow, args.flow, args.flow_weights, args.flow_sha256)
        tools = Tools.load(args.metric, args.lpips, flow, ranks.device)
        net = None
        if args.fvd_weights is not None:
            net = FeatureNet.load(args.fvd_weights, args.fvd_sha256, args.fvd_frames, ranks.device)
        mine = pairing.pairs[ranks.rank :: ranks.world_size]
        kept = KeptScores(args.output_dir, _view(args), tools, args.batch_size)
        done = _score(mine, _view(args), tools, net, args.batch_size, ranks, kept)
        outcome = _merged(ranks.gather(done), list(folders))
    if ranks.is_main:
        _warn(pairing, outcome)
        _judge(args, pairing, outcome)
        _write(args, tools, net, folders, pairing, outcome, started)
        kept.remove()


def _view(args: argparse.Namespace) -> View:
    return View(
        resolution=args.resolution,
        crop_size=args.crop_size,
        num_frames=args.num_frames,
        sample_rate=args.sample_rate,
    )


def _score(
    pairs: Sequence[Pair],
    view: View,
    tools: Tools,
    net: FeatureNet | None,
    batch_size: int,
    ranks: Ranks,
    kept: KeptScores,
) -> Outcome:
    """Score pairs one by one; a clip that cannot be scored is noted, and the others go on."""
    outcome = Outcome()
    originals = _open_originals(pairs, outcome)
    known = {pair.name: kept.read(pair, originals[pair.name]) for pair in pairs if pair.name in originals}
    if any(known.values()):
        log.info("%d of %d clips were scored before", sum(map(bool, known.values())), len(known))
    total = sum(len(view.indices(source.frames)) for name, source in originals.items() if not known[name])
    desc = "evaluate" if not ranks.is_distributed else f"evaluate (rank {ranks.rank} of {ranks.world_size})"
    with progress(total=total, desc=desc, unit="frames") as bar:
        for pair in pairs:
            if pair.name not in originals:
                continue
            try:
                results = known[pair.name] or kept.keep(
                    pair, score_clip(pair, originals[pair.name], view, tools, batch_size, bar.update)
                )
            except (MediaError, UserError) as error:
                outcome.refused += _refuse_all(pair, error)
                continue
            scores = [result for result in results if isinstance(result, ClipScores)]
            outcome.scores += scores
            if net is not None:
                variants = [result.variant for result in scores]
                outcome.features += clip_features(pair, originals[pair.name], view, net, variants)
            outcome.refused += [result for result in results if isinstance(result, Refused)]
    return outcome


def _open_originals(pairs: Sequence[Pair], outcome: Outcome) -> dict[str, Source]:
    """Open the originals, by the names of the pairs; those that cannot be read are noted in the outcome."""
    found: dict[str, Source] = {}
    for pair in pairs:
        try:
            found[pair.name] = open_source(pair.real)
        except (MediaError, UserError) as error:
            outcome.refused += _refuse_all(pair, error)
    return found


def _refuse_all(pair: Pair, error: Exception) -> list[Refused]:
    reason = f"the original: {error}"
    return [Refused(variant=variant, clip_id=pair.name, reason=reason) for variant in pair.generated]


def _merged(outcomes: Sequence[Outcome], variants: Sequence[str]) -> Outcome:
    """Join what the ranks did, in the order of variants and names: the same for any number of ranks."""

    def place(clip: ClipScores | Refused | ClipFeatures) -> tuple[int, str, int]:
        """Return a clip's place: by variant, then by name."""
        if isinstance(clip, ClipScores):
            return variants.index(clip.variant), clip.clip_id, clip.window
        return variants.index(clip.variant), clip.clip_id, 0

    scores = [clip for outcome in outcomes for clip in outcome.scores]
    refused = [clip for outcome in outcomes for clip in outcome.refused]
    features = [clip for outcome in outcomes for clip in outcome.features]
    return Outcome(
        scores=sorted(scores, key=place), refused=sorted(refused, key=place), features=sorted(features, key=place)
    )


def _warn(pairing: Pairing, outcome: Outcome) -> None:
    for lacking in pairing.unpaired[:NAMED]:
        log.warning("%s has no partner: missing from %s", lacking["clip_id"], lacking["missing_from"])
    for clip in outcome.refused[:NAMED]:
        log.warning("%s (%s) is not scored: %s", clip.clip_id, clip.variant, clip.reason)
    hidden = max(0, len(pairing.unpaired) - NAMED) + max(0, len(outcome.refused) - NAMED)
    if hidden:
        log.warning("... and %d more, listed in the summary", hidden)
    for sentence in unequal_lengths(outcome.scores) + unread_folders(pairing.unread):
        log.warning("%s", sentence)


def _write(
    args: argparse.Namespace,
    tools: Tools,
    net: FeatureNet | None,
    folders: Mapping[str, Path],
    pairing: Pairing,
    outcome: Outcome,
    started: float,
) -> None:
    frames = frames_table(outcome.scores)
    clips = clips_table(frames, clip_sources(outcome.scores, args.clips or ()))
    named = {"real": args.real_video_dir, **folders}
    makers = made_by(args.clips or ())
    said = conditions(outcome.scores, _view(args), tools, args.sample_fps, named, makers)
    summary: dict[str, Any] = {
        "conditions": said | stated(args.under, outcome.scores) | {"bootstrap": args.bootstrap, "seed": args.seed},
        "unpaired": [dict(lacking) for lacking in pairing.unpaired],
        "refused": [vars(clip) for clip in outcome.refused],
        "unequal": [[clip.variant, clip.name] for clip in outcome.scores if clip.unequal],
        "warnings": left_out(pairing, outcome.scores, outcome.refused),
        "variants": summarize(clips, args.bootstrap, args.seed),
    }
    if args.check is not None:
        summary["check"] = check_scores(outcome.scores, _view(args), tools, args.check)
    if net is not None:
        summary["conditions"]["fvd_sha256"] = net.sha256
        for variant, value in summarize_fvd(outcome.features, net, args.sample_rate).items():
            summary["variants"][variant]["rfvd"] = value
            summary["warnings"] += [f"{variant}: no rFVD, {value['reason']}"] if value["reason"] else []
            summary["warnings"] += [f"{variant}: rFVD of {value['warning']}"] if value["warning"] else []
    if args.output is not None:
        write_json_atomic(args.output, summary)
    if args.output_dir is not None:
        _write_tables(args.output_dir, frames, clips)
        write_json_atomic(args.output_dir / SUMMARY, summary)
        _write_record(args, tools, pairing, started, clips=len(clips), frames=len(frames))
    sys.stdout.write(_as_text(summary))


def _write_record(args: argparse.Namespace, tools: Tools, pairing: Pairing, started: float, **counts: int) -> None:
    """Record what was read (clips, lists of them, weights) and what was written."""
    read: dict[str, Path | Part] = {f"list_{number}": table for number, table in enumerate(args.clips or ())}
    read |= {f"lpips_{net}": args.lpips / f"{net}.safetensors" for net in tools.nets}
    weights = {"flow": args.flow_weights, "fvd": args.fvd_weights}
    read |= {name: Path(path) for name, path in weights.items() if path is not None and Path(path).is_file()}
    files = [pair.real for pair in pairing.pairs] + [file for pair in pairing.pairs for file in pair.generated.values()]
    for folder in dict.fromkeys(file.parent for file in files):
        names = [name for file in files if file.parent == folder for name in _names(file)]
        read[f"clips {folder}"] = Part(folder, names)
    settings = {name: _plain(value) for name, value in vars(args).items()}
    written = {name: args.output_dir / name for name in (FRAMES, CLIPS, SUMMARY)}
    record = run_record("evaluate", settings, read, outputs=written, started=started, **counts)
    write_json_atomic(args.output_dir / RECORD, record)


def _check_places(args: argparse.Namespace) -> None:
    """Refuse what others put where the scores go, before anything is scored."""
    summary = ("conditions", "variants")
    if args.output is not None:
        check_places({args.output: summary})
    if args.output_dir is not None:
        tables = {args.output_dir / CLIPS: ("variant", "clip_id"), args.output_dir / FRAMES: ("variant", "clip_id")}
        check_places({**tables, args.output_dir / SUMMARY: summary, args.output_dir / RECORD: RECORD_TRAITS})


def _names(clip: Path) -> list[str]:
    """List a clip's files by their paths below the folder that it lies in."""
    if not clip.is_dir():
        return [clip.name]
    try:
        return [f"{clip.name}/{file.name}" for file in frame_files(clip)]
    except MediaError:  # refused, and said so
        return []


def _plain(value: Any) -> Any:
    plain: Any = json.loads(json.dumps(value, default=str))
    return plain


def _write_tables(folder: Path, frames: pd.DataFrame, clips: pd.DataFrame) -> None:
    with atomic_path(folder / FRAMES) as aside:
        frames.to_parquet(aside, index=False)
    with atomic_path(folder / CLIPS) as aside:
        clips.round(DECIMALS).to_csv(aside, index=False, lineterminator="\n")


def _as_text(summary: Mapping[str, Any]) -> str:
    """Write the means for people: one line per variant and metric, with its interval."""
    lines = []
    for variant, entry in summary["variants"].items():
        sources = f" from {entry['sources']} sources" if "sources" in entry else ""
        lines.append(f"{variant}: {entry['clips']} clips{sources}, {entry['frames']} frames")
        for name, value in entry.items():
            if name == "rfvd":
                why = "" if value["reason"] is None else f" ({value['reason']})"
                lines.append(f"  {value['name']} [{value['features']}]: {value['value']}{why}")
            elif isinstance(value, Mapping) and value["mean"] is not None:
                interval = "" if value["low"] is None else f"  (95 %: {value['low']:.4f} to {value['high']:.4f})"
                label = f"{name} [{summary['conditions']['flow']}]" if name in FLOW_METRICS else name
                lines.append(f"  {label:<16} {value['mean']:10.4f}{interval}")
        if entry.get("psnr_capped"):
            lines.append(f"  {entry['psnr_capped']} frames are identical: their PSNR was capped at 100 dB")
    if protocol := summary["conditions"].get("protocol"):
        lines.append(f"protocol: {protocol}")
    if not summary["conditions"]["lossless"]:
        lines.append("not stored losslessly: the losses of the video coding are part of these numbers")
    return "\n".join(lines) + "\n"


def _judge(args: argparse.Namespace, pairing: Pairing, outcome: Outcome) -> None:
    """Fail where nothing was scored, or with --strict where anything was left out."""
    if not outcome.scores:
        first = outcome.refused[0]
        raise UserError(f"no clip could be scored; {first.clip_id} ({first.variant}): {first.reason}")
    wrong = len(pairing.unpaired) + len(outcome.refused) + sum(clip.unequal for clip in outcome.scores)
    if args.strict and wrong:
        raise UserError(
            f"--strict: {wrong} clips have no partner, were refused or differ in length from the original, nothing is "
            "written; see the lines above, delete what is damaged and reconstruct it again"
        )
