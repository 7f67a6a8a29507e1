"""Decode files of latents back to videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from video_vae.config import Config
from video_vae.data.storage import LOSSLESS_SUFFIX, PREVIEW_SUFFIX, LosslessWriter, VideoWriter, lossless_info
from video_vae.data.transform import Frames, to_uint8
from video_vae.distributed.device import pick_device
from video_vae.errors import UserError
from video_vae.foreign import PREVIEW, STORED, check_places
from video_vae.latents.encoder import set_tiles
from video_vae.latents.video_shards import Row, read_index, read_latents
from video_vae.models import VideoAutoencoderKL
from video_vae.progress import progress
from video_vae.provenance import fingerprint
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.reconstruction.clips import IMAGE_FPS
from video_vae.reconstruction.variants import piece_frames
from video_vae.weights.hashing import weights_sha256


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The model and everything that shapes the videos."""

    model: VideoAutoencoderKL
    device: torch.device
    settings: Any
    """What shapes them besides the latents; JSON-like."""

    def fingerprint(self, row: Row) -> str:
        """Identify a clip's video by all that shapes it."""
        return fingerprint([self.settings, [row[name] for name in ("crc32", "frames", "height", "width", "fps")]])

    @torch.inference_mode()
    def decode(self, latents: Tensor, row: Row) -> Iterator[Frames]:
        """Decode latents (C,T',h,w) some frames at a time: uint8 (t,H,W,3).

        Raises:
            UserError: if they have not the length of the frames that the index tells.
        """
        frames, height, width = (int(row[name]) for name in ("frames", "height", "width"))
        try:
            for part in self._parts(latents[None], frames, piece_frames((height, width))):
                yield to_uint8(part[0])[:, :height, :width]
        except ValueError as error:
            raise UserError(f"{row['file']}: {row['clip_id']}: {error}; encode the clip again") from None

    def _parts(self, latents: Tensor, frames: int, size: int) -> Iterator[Tensor]:
        if not self.model.streams:
            z = self.model.decode_temporal(latents.to(self.device).float(), frames)
            yield from map(self.model.decode_spatial, z.split(size, dim=2))
            return
        pieces = (part.to(self.device).float() for part in latents.split(size, dim=2))
        yield from self.model.decode_stream(pieces, frames)


def run(args: argparse.Namespace) -> None:
    """Decode the clips of a shard."""
    if not 0 <= args.shard < args.shards:
        raise UserError(f"--shard {args.shard} of --shards {args.shards}: shards count from 0 to {args.shards - 1}")
    rows = read_index(args.latents)[args.shard :: args.shards]
    folder = args.latents if args.latents.is_dir() else args.latents.parent
    decoder = _load(args)
    other = next((row for row in rows if row["model_sha256"] != decoder.settings["weights_sha256"]), None)
    if other is not None:
        raise UserError(
            f"--model {args.model} did not make the latents of {other['clip_id']}: its weights have sha256 "
            f"{decoder.settings['weights_sha256'][:12]}, theirs {other['model_sha256'][:12]}; give the model that did"
        )
    suffix = LOSSLESS_SUFFIX if args.lossless else PREVIEW_SUFFIX
    paths = [args.output / f"{row['clip_id']}{suffix}" for row in rows]
    check_places({path: [STORED if args.lossless else PREVIEW] for path in paths})
    kept = 0
    with progress(total=sum(int(row["frames"]) for row in rows), desc="decode", unit="frames") as bar:
        for row, path in zip(rows, paths, strict=True):
            if _written(path) == decoder.fingerprint(row):
                kept += 1
                bar.skip(int(row["frames"]))
            else:
                _write(decoder, path, row, read_latents(folder, row), bar)
    frames = sum(int(row["frames"]) for row in rows)
    sys.stdout.write(f"{args.output}: {len(rows)} videos, {frames} frames ({kept} were there)\n")


def _load(args: argparse.Namespace) -> Decoder:
    model: Any = load_checkpoint(args.model, Config())
    settings = {
        "weights_sha256": weights_sha256(model.state_dict()),
        "tile": set_tiles(model, args.tile, args.tile_overlap),
    }
    device = pick_device(args.device)
    model.to(device).spatial.to(memory_format=torch.channels_last)
    return Decoder(model=model, device=device, settings=settings)


def _write(decoder: Decoder, path: Path, row: Row, latents: Tensor, bar: Any) -> None:
    fps, mark = float(row["fps"] or IMAGE_FPS), decoder.fingerprint(row)
    writer = (
        LosslessWriter(path, fps, frames=int(row["frames"]), meta={"fingerprint": mark})
        if path.suffix == LOSSLESS_SUFFIX
        else VideoWriter(path, fps, note=mark)
    )
    with writer:
        for frames in decoder.decode(latents, row):
            writer.write(frames)
            bar.update(len(frames))


def _written(path: Path) -> str:
    """Return the fingerprint of a video that is there, as it was written into it; empty where there is none."""
    try:
        if path.suffix == LOSSLESS_SUFFIX:
            return str(lossless_info(path).meta.get("fingerprint", ""))
        with av.open(str(path)) as container:
            return str(container.metadata.get("description", ""))
    except (av.FFmpegError, OSError, UserError):
        return ""
