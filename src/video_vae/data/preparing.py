"""Write shards of prepared clips: each clip decoded once, resized, and coded again in short groups of pictures."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video_vae.config import Config, load_config
from video_vae.config.slices import seen_at
from video_vae.data.content import MediaError, raise_if_source_missing
from video_vae.data.identity import is_content_id
from video_vae.data.kept import earlier_shards, keep
from video_vae.data.prepared import FORMAT, NOTE, read_note, settings_of
from video_vae.data.probed import FORMAT as PROBED_FORMAT
from video_vae.data.sampling import Sampling
from video_vae.data.sharding import content_of, shard_clips
from video_vae.data.storage import LosslessWriter, ShortGroupsWriter
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, cover, look
from video_vae.data.video import iterate_clip, probe, read_frames
from video_vae.data.view import View
from video_vae.distributed.cores import usable_cores
from video_vae.errors import UserError
from video_vae.files import atomic_path, remove_written, sha256_file
from video_vae.foreign import PREPARED, RECORD_TRAITS, check_places
from video_vae.progress import progress
from video_vae.provenance import RECORD, fingerprint, run_record, write_json_atomic
from video_vae.tar_members import header, read_member

log = logging.getLogger(__name__)

PIECE_FRAMES = 8
"""Frames handled at once by each worker."""
RATE = 25.0
"""Frames per second that the files say; nobody asks them for it."""
COMPARED = (0.0, 0.5, 1.0)
"""Where a finished file is compared with what was written, as shares of its length."""
_EXACT_DB = 100.0


class _LosslessWriter(LosslessWriter):
    """FFV1 in groups of 4 frames."""

    _codec_options = LosslessWriter._codec_options | {"g": "4"}


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a shard is made with, and where its parts lie until it is whole."""

    settings: dict[str, Any]
    sampling: Sampling
    folder: Path

    @property
    def suffix(self) -> str:
        """Return how a clip's file ends."""
        return ".mp4" if self.settings["prepare"] == "h264" else ".mkv"

    def key(self, clip: Clip) -> str:
        """Identify a prepared clip: by content, by settings, and by how this version reads files."""
        return fingerprint([self.settings, *content_of(clip), PROBED_FORMAT])

    def member(self, clip: Clip) -> str:
        """Name a clip's file in the shard."""
        return f"{clip.clip_id}.{self.key(clip)}{self.suffix}"

    def part(self, clip: Clip) -> Path:
        """Return where a clip's file lies until the shard is whole; what is known of it lies beside."""
        return self.folder / self.member(clip)


def run(args: argparse.Namespace) -> None:
    """Prepare the clips of one shard and write them with a record of the run beside them."""
    started = time.time()
    config = seen_at(load_config(args.config), args.resolution)
    if config.data.prepare == "none":
        raise UserError("data.prepare is none: nothing is to be prepared; set it to h264 or lossless")
    if args.output.suffix != ".tar":
        raise UserError(f"--output {args.output}: a shard is a tar file; give a name that ends in .tar")
    check_places({args.output: [PREPARED], _record_of(args.output): RECORD_TRAITS})
    table = shard_clips([args.data_path], args.shard, args.shards, config.data.columns)
    clips = [clip for clip in table if clip.kind == "video" and clip.split != "test"]
    folder = args.output.parent / f".{args.output.stem}.parts"
    job = _Job(settings=settings_of(config.data), sampling=Sampling.of(config.data), folder=folder)
    torch.set_num_threads(1)  # the workers share the cores
    failed = _prepare_all(clips, job, args)
    if failed and len(failed) == len(clips):
        name, reason = next(iter(failed.items()))
        raise UserError(f"none of {len(clips)} clips can be prepared, such as {name} ({reason}); check the table")
    entries = {clip.clip_id: _entry(clip, job) for clip in clips if clip.clip_id not in failed}
    _write_shard(args.output, job, entries, failed)
    _write_record(args, config, entries, failed, started)
    keep(args.output)


def _record_of(output: Path) -> Path:
    return output.with_suffix(f".{RECORD}")


def _write_record(
    args: argparse.Namespace, config: Config, entries: Mapping[str, Any], failed: Mapping[str, str], started: float
) -> None:
    decibels = [entry["psnr"] for entry in entries.values() if entry["psnr"] is not None]
    measured = {"psnr": float(np.mean(decibels)), "lowest_psnr": min(decibels)} if decibels else {}
    counts = {"clips": len(entries), "frames": sum(entry["frames"] for entry in entries.values())}
    said: dict[str, Any] = {**counts, **measured, "failed": dict(failed)}
    read = {"table": args.data_path}
    record = run_record("prepare-clips", config, read, outputs={"shard": args.output}, started=started, **said)
    write_json_atomic(_record_of(args.output), record)


def _prepare_all(clips: Sequence[Clip], job: _Job, args: argparse.Namespace) -> dict[str, str]:
    """Prepare what no earlier run did; return the clips that cannot be, and why."""
    known = {job.key(clip): clip for clip in clips if is_content_id(clip.source_id)}
    taken = _take_over({key: job.part(clip) for key, clip in known.items()}, args.output, args.reuse)
    if taken:
        log.info("%d of %d clips are in an earlier shard", taken, len(clips))
    failed: dict[str, str] = {}
    total = sum(job.sampling.count(clip) for clip in clips)
    workers = max(1, args.workers or usable_cores())
    with progress(total=total, desc="prepare clips", unit="frames") as bar, ThreadPoolExecutor(workers) as pool:
        for clip, error in zip(clips, pool.map(partial(_attempt, job=job), clips), strict=True):
            bar.update(job.sampling.count(clip))
            if error is not None:
                pool.shutdown(wait=False, cancel_futures=error.gone)
                raise_if_source_missing(clip, error)
                failed[clip.clip_id] = str(error)
                log.warning("%s (%s) is left out: %s", clip.clip_id, clip.path, error)
    return failed


def _attempt(clip: Clip, job: _Job) -> MediaError | None:
    part = job.part(clip)
    try:
        if not (part.exists() and _facts_of(part).exists()):
            _prepare(clip, job, part)
    except MediaError as error:
        return error
    return None


def _facts_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _prepare(clip: Clip, job: _Job, part: Path) -> None:
    """Write a clip's file, compare it with what was written, and note what it is.

    Raises:
        MediaError: if the clip cannot be decoded.
    """
    indices = job.sampling.indices(clip)
    compared = sorted({round(share * (len(indices) - 1)) for share in COMPARED})
    samples: list[Frames] = []
    writer = (
        _LosslessWriter(part, RATE, frames=len(indices))
        if job.settings["prepare"] == "lossless"
        else ShortGroupsWriter(part, RATE)
    )
    with writer:
        count = 0
        for frames in iterate_clip(clip, indices, PIECE_FRAMES, partial(_seen, settings=job.settings)):
            samples += [frames[place - count] for place in compared if count <= place < count + len(frames)]
            writer.write(frames)
            count += len(frames)
    decibels = _compared(part, len(indices), compared, np.stack(samples))
    if job.settings["prepare"] == "lossless" and decibels is not None:
        raise RuntimeError(f"{part}: other pixels are read than were written ({decibels:.1f} dB)")
    height, width = samples[0].shape[:2]
    facts = {"sha256": sha256_file(part), "frames": count, "height": height, "width": width, "psnr": decibels}
    write_json_atomic(_facts_of(part), facts)


def _seen(frames: Frames, settings: Mapping[str, Any]) -> Frames:
    """Bring decoded frames to what is stored."""
    resolution = (settings["resolution"][0], settings["resolution"][1])
    if settings["crop"] == "random":
        return cover(frames, resolution, settings["zoom"])
    return look(frames, resolution, View(zoom=settings["zoom"]))


def _compared(part: Path, count: int, places: Sequence[int], samples: Frames) -> float | None:
    """Return the mean PSNR of some frames as they are read back, in dB; None where they are the same to the bit."""
    found = probe(part).num_frames
    if found != count:
        raise RuntimeError(f"{part}: {found} frames are read, {count} were written")
    read = read_frames(part, places)
    if np.array_equal(read, samples):
        return None
    errors = np.square(read.astype(np.float64) - samples).mean(axis=(1, 2, 3)) / 255**2
    return float(np.mean([min(_EXACT_DB, -10 * np.log10(max(error, 1e-10))) for error in errors]))


def _entry(clip: Clip, job: _Job) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_facts_of(job.part(clip)).read_text(encoding="utf-8"))
    return {"member": job.member(clip), "key": job.key(clip), "of": content_of(clip), **facts}


def _write_shard(output: Path, job: _Job, entries: Mapping[str, Any], failed: Mapping[str, str]) -> None:
    """Join the parts into a tar file, the same bytes for the same clips, and remove them."""
    note = {"format": FORMAT, "settings": job.settings, "clips": entries, "failed": dict(failed)}
    text = json.dumps(note, separators=(",", ":")).encode()
    with atomic_path(output) as aside, tarfile.open(aside, "w") as archive:
        archive.addfile(header(NOTE, len(text)), io.BytesIO(text))
        for entry in entries.values():
            part = job.folder / entry["member"]
            with part.open("rb") as stream:
                archive.addfile(header(part.name, part.stat().st_size), stream)
    names = [entry["member"] for entry in entries.values()]
    remove_written(job.folder, [name for member in names for name in (member, f"{member}.json")])


def _take_over(wanted: Mapping[str, Path], output: Path, folder: Path | None) -> int:
    """Copy the files of clips that earlier shards hold; return how many."""
    missing = {key: part for key, part in wanted.items() if not _facts_of(part).exists()}
    taken = 0
    for shard in earlier_shards(output, folder):
        for entry, content in _held(shard, missing) if missing else ():
            part = missing.pop(entry["key"])
            with atomic_path(part) as aside:
                aside.write_bytes(content)
            facts = ("sha256", "frames", "height", "width", "psnr")
            write_json_atomic(_facts_of(part), {name: entry[name] for name in facts})
            taken += 1
    return taken


def _held(shard: Path, missing: Mapping[str, Path]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the clips that a shard holds of those that are missing; it may be damaged or none."""
    try:
        for entry in read_note(shard)["clips"].values():
            if entry["key"] in missing:
                content = read_member(shard, entry["member"])
                if hashlib.sha256(content).hexdigest() == entry["sha256"]:
                    yield entry, content
    except (UserError, OSError, KeyError, TypeError) as error:
        log.info("%s is skipped: %s", shard, " ".join(str(error).split()))
