"""Encode clips to files of latents for diffusion models, while the next clips are decoded."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video_vae.config import Config, load_config
from video_vae.data.content import raise_if_source_missing
from video_vae.data.prefetch import prefetched
from video_vae.data.sampling import Sampling
from video_vae.data.sharding import shard_clips
from video_vae.data.table import Clip, beside
from video_vae.data.transform import Frames, pad_to_multiple, resize_crop, to_tensor
from video_vae.data.video import MediaError, iterate_clip
from video_vae.distributed.device import pick_device
from video_vae.errors import UserError
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.latents.video_shards import (
    COLUMNS,
    INDEX,
    NOTE,
    Row,
    checksum,
    forget_index,
    join_indices,
    read_note,
    remove_others,
    shard_file,
    shard_list,
    write_index,
    write_shard,
)
from video_vae.models import VideoAutoencoderKL
from video_vae.progress import progress
from video_vae.provenance import RECORD, Part, fingerprint, run_record, write_json_atomic
from video_vae.reconstruction.checkpoint import check_there, load_checkpoint
from video_vae.reconstruction.index import FAILED_COLUMNS, write_failed
from video_vae.reconstruction.variants import piece_frames
from video_vae.weights.hashing import weights_sha256

log = logging.getLogger(__name__)

AHEAD = 3
"""Pieces of frames decoded ahead of the one that is encoded."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How the frames of clips are taken."""

    resolution: tuple[int, int] | None
    """Height and width; None for the clip's own."""
    zoom: float
    sampling: Sampling

    def size(self, clip: Clip) -> tuple[int, int]:
        """Return height and width of a clip's frames."""
        return self.resolution or (clip.height, clip.width)

    def rate(self, clip: Clip) -> str:
        """Return the frames per second of a clip as text, empty for an image."""
        return "" if clip.fps is None else f"{self.sampling.rate(clip.fps):.6g}"

    def pieces(self, clip: Clip) -> Iterator[Frames]:
        """Read a clip some frames at a time: uint8 (t,H,W,3).

        Raises:
            MediaError: if a frame cannot be decoded, or has another size than the table says.
        """
        size, see = self.size(clip), None
        if self.resolution is not None:
            see = partial(resize_crop, resolution=self.resolution, zoom=self.zoom)
        for seen in iterate_clip(clip, self.sampling.indices(clip), piece_frames(size), see):
            if seen.shape[1:3] != size:
                found = f"{seen.shape[1]}x{seen.shape[2]}"
                raise MediaError("unreadable", f"its frames are {found} pixels, the table says {size[0]}x{size[1]}")
            yield seen


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The model and everything that shapes the latents."""

    model: VideoAutoencoderKL
    device: torch.device
    view: View
    dtype: torch.dtype
    settings: Mapping[str, Any]

    def shape(self, clip: Clip) -> tuple[int, int, int, int]:
        """Return the shape of a clip's latents."""
        side, channels = self.model.spatial_compression_ratio, self.model.temporal.config["latent_channels"]
        height, width = (-(-pixels // side) for pixels in self.view.size(clip))
        return channels, self.model.latent_frames(self.view.sampling.count(clip)), height, width

    def bytes(self, clip: Clip) -> int:
        """Return the size of a clip's latents in bytes."""
        return torch.Size(self.shape(clip)).numel() * self.dtype.itemsize

    def identity(self, clip: Clip) -> list[Any]:
        """Return what identifies a clip's latents: the clip and its view."""
        return [clip.clip_id, clip.source_id, clip.start_frame, self.view.sampling.count(clip), *self.view.size(clip)]

    @torch.inference_mode()
    def encode(self, pieces: Iterator[Frames], count: int) -> Tensor:
        """Encode the pieces of a clip of so many frames.

        Raises:
            MediaError: if the latents do not fit the number format.
        """
        pixels = (self._pixels(frames) for frames in pieces)
        if self.model.streams:
            parts = [part.to("cpu", self.dtype) for part in self.model.encode_stream(pixels, count)]
            latents = torch.cat(parts, dim=2)[0]
        else:
            latents = self.model.encode_latents(torch.cat(list(pixels), dim=2))[0].to("cpu", self.dtype)
        if not latents.isfinite().all():
            raise MediaError("unreadable", f"its latents are not finite as {self.settings['dtype']}")
        return latents

    def _pixels(self, frames: Frames) -> Tensor:
        padded = pad_to_multiple(frames, self.model.spatial_compression_ratio)
        return to_tensor(padded)[None].to(self.device)

    def all(self, clips: Sequence[Clip]) -> Iterator[Tensor | MediaError]:
        """Encode clips while the next ones are decoded; yield the result or the error of each."""
        for number, group in groupby(prefetched(self._decoded(clips), AHEAD), key=lambda item: item[0]):
            try:
                yield self.encode(_raised(piece for _, piece in group), self.view.sampling.count(clips[number]))
            except MediaError as error:
                yield error

    def _decoded(self, clips: Sequence[Clip]) -> Iterator[tuple[int, Frames | MediaError]]:
        for number, clip in enumerate(clips):
            try:
                yield from ((number, frames) for frames in self.view.pieces(clip))
            except MediaError as error:
                yield number, error


def _raised(pieces: Iterator[Frames | MediaError]) -> Iterator[Frames]:
    for piece in pieces:
        if isinstance(piece, MediaError):
            raise piece
        yield piece


def run(args: argparse.Namespace) -> None:
    """Encode the clips of a shard, and list them."""
    started = time.time()
    check_there(args.model)  # before clips are probed
    config = load_config(args.config) if args.config else Config()
    listed = shard_clips(args.clips, args.shard, args.shards, config.data.columns)
    clips = [clip for clip in listed if args.images or clip.kind == "video"]
    if not clips and args.shards == 1:
        raise UserError(f"{args.clips[0]} holds no video; give one that does, or --images for its images")
    index = args.index or args.output / (INDEX if args.shards == 1 else shard_list(args.shard))
    lists = {index: COLUMNS, beside(index, "failed.csv"): FAILED_COLUMNS, beside(index, RECORD): RECORD_TRAITS}
    check_places({**lists, args.output / INDEX: COLUMNS})
    encoder = load_encoder(args, config)
    rows, failed = _encode_files(encoder, clips, args)
    if failed and len(failed) == len(clips):
        name, reason = next(iter(failed.items()))
        raise UserError(f"none of {len(clips)} clips can be encoded, such as {name} ({reason}); check their paths")
    write_index(index, rows)
    lost = [{"clip_id": c.clip_id, "path": c.path, "reason": failed[c.clip_id]} for c in clips if c.clip_id in failed]
    write_failed(beside(index, "failed.csv"), lost)
    _write_record(args, config, encoder, index, rows, failed, started)
    if args.index is None and args.shards > 1:
        index = join_indices(args.output, args.shards) or index
    frames = sum(int(row["frames"]) for row in rows)
    left = f", images left out: {len(listed) - len(clips)} (--images)" if len(listed) > len(clips) else ""
    sys.stdout.write(f"{index}: {len(rows)} clips, {frames} frames, {len(failed)} failed{left}\n")


def load_encoder(args: argparse.Namespace, config: Config) -> Encoder:
    """Load the model, and decide how frames are resized and sampled.

    Raises:
        UserError: if the model cannot be loaded, or the options do not fit together.
    """
    model: Any = load_checkpoint(args.model, config)
    side = model.spatial_compression_ratio
    resolution = tuple(args.resolution) if args.resolution else config.data.resolution if args.config else None
    if resolution is not None and (min(resolution) < side or any(pixels % side for pixels in resolution)):
        raise UserError(f"--resolution {resolution[0]} {resolution[1]}: give multiples of {side}")
    view = View(resolution=resolution, zoom=config.data.zoom, sampling=Sampling.of(config.data))
    dtype = args.dtype or (config.latents.dtype if args.config else "float32")
    settings = {
        "weights_sha256": weights_sha256(model.state_dict()),
        "architecture": fingerprint({key: value for key, value in model.config.items() if not key.startswith("_")}),
        "dtype": dtype,
        "zoom": view.zoom,
        "sampling": view.sampling.identity(),
        "tile": set_tiles(model, args.tile, args.tile_overlap),
    }
    device = pick_device(args.device)
    model.to(device).spatial.to(memory_format=torch.channels_last)
    return Encoder(model=model, device=device, view=view, dtype=getattr(torch, dtype), settings=settings)


def set_tiles(model: VideoAutoencoderKL, tile: int | None, overlap: int) -> list[int] | None:
    """Enable tiling where it is asked for; return the settings that shape the result.

    Raises:
        UserError: if the tiles cannot overlap so.
    """
    if tile is None:
        return None
    try:
        model.enable_tiling(tile, overlap)
    except ValueError as error:
        raise UserError(f"--tile {tile} --tile-overlap {overlap}: {error}") from None
    return [tile, overlap]


def _encode_files(
    encoder: Encoder, clips: Sequence[Clip], args: argparse.Namespace
) -> tuple[list[Row], dict[str, str]]:
    """Write the files of a shard that an earlier run did not; return the rows of all, and the clips that failed."""
    groups = list(_groups(encoder, clips, int(args.file_size * 2**20)))
    paths = [args.output / shard_file(args.shard, number) for number in range(len(groups))]
    identities = [fingerprint([encoder.settings, [encoder.identity(clip) for clip in group]]) for group in groups]
    check_places({path: [NOTE] for path in paths})
    notes = [read_note(path) for path in paths]
    kept = [note if note and note.get("identity") == key else None for note, key in zip(notes, identities, strict=True)]
    todo = [clip for group, note in zip(groups, kept, strict=True) for clip in group if note is None]
    if todo and args.index is None:
        forget_index(args.output)  # what it says of the files is over
    made = encoder.all(todo)
    rows: list[Row] = []
    failed: dict[str, str] = {}
    total = sum(encoder.view.sampling.count(clip) for clip in clips)
    with progress(total=total, desc="encode", unit="frames") as bar:
        for group, path, identity, known in zip(groups, paths, identities, kept, strict=True):
            note = known
            if note is None:
                note = _encode_file(encoder, group, path, identity, islice(made, len(group)), bar)
            else:
                bar.skip(sum(encoder.view.sampling.count(clip) for clip in group))
            rows += [_row(encoder, clip, path.name, note["crc32"]) for clip in group if clip.clip_id in note["crc32"]]
            failed |= note["failed"]
    remove_others(args.output, args.shard, [path.name for path in paths])
    return rows, failed


def _groups(encoder: Encoder, clips: Sequence[Clip], limit: int) -> Iterator[list[Clip]]:
    """Put consecutive clips together, as many as a file holds, at least one."""
    group: list[Clip] = []
    size = 0
    for clip in clips:
        if group and size + encoder.bytes(clip) > limit:
            yield group
            group, size = [], 0
        group.append(clip)
        size += encoder.bytes(clip)
    if group:
        yield group


def _encode_file(
    encoder: Encoder, group: Sequence[Clip], path: Path, identity: str, made: Iterator[Tensor | MediaError], bar: Any
) -> dict[str, Any]:
    """Write the latents of some clips as they are made; return the file's note."""
    latents: dict[str, Tensor] = {}
    failed: dict[str, str] = {}
    for clip, result in zip(group, made, strict=True):
        if isinstance(result, MediaError):
            raise_if_source_missing(clip, result)
            failed[clip.clip_id] = str(result)
            log.warning("%s (%s) is left out: %s", clip.clip_id, clip.path, result)
        else:
            latents[clip.clip_id] = result
        bar.update(encoder.view.sampling.count(clip))
    note = {"identity": identity, "failed": failed, "crc32": {name: checksum(part) for name, part in latents.items()}}
    write_shard(path, latents, note)
    return note


def _row(encoder: Encoder, clip: Clip, file: str, checksums: Mapping[str, int]) -> Row:
    height, width = encoder.view.size(clip)
    return {
        "clip_id": clip.clip_id,
        "file": file,
        "path": clip.path,
        "kind": clip.kind,
        "start_frame": str(clip.start_frame),
        "frames": str(encoder.view.sampling.count(clip)),
        "height": str(height),
        "width": str(width),
        "fps": encoder.view.rate(clip),
        "latent_frames": str(encoder.shape(clip)[1]),
        "text": clip.text,
        "split": clip.split,
        "crc32": str(checksums[clip.clip_id]),
        "model_sha256": encoder.settings["weights_sha256"],
    }


def _write_record(
    args: argparse.Namespace,
    config: Config,
    encoder: Encoder,
    index: Path,
    rows: Sequence[Row],
    failed: Mapping[str, str],
    started: float,
) -> None:
    frames, seconds = sum(int(row["frames"]) for row in rows), time.time() - started
    read = {f"clips_{number}": path for number, path in enumerate(args.clips) if path.is_file()}
    files = list(dict.fromkeys(row["file"] for row in rows))
    record = run_record(
        "encode",
        config,
        read | {"model": args.model},
        outputs={"index": index, "failed": beside(index, "failed.csv"), "latents": Part(args.output, files)},
        started=started,
        settings=encoder.settings,
        clips=len(rows),
        failed=failed,
        frames_per_s=round(frames / seconds, 3),
    )
    write_json_atomic(beside(index, RECORD), record)
