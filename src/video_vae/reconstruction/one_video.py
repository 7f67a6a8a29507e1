"""Reconstruct one video at its own size: all frames, in memory that does not grow with their number."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from video_vae.config import Config
from video_vae.data.content import MediaError
from video_vae.data.storage import LosslessWriter, VideoWriter
from video_vae.data.transform import Frames, pad_to_multiple
from video_vae.data.video import MediaInfo, iterate_pieces, probe
from video_vae.distributed.device import pick_device
from video_vae.distributed.stopping import Stopped
from video_vae.errors import UserError
from video_vae.foreign import PREVIEW, STORED, raise_if_foreign
from video_vae.metrics.pixel import psnr
from video_vae.progress import progress
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.reconstruction.options import set_cuts, with_options
from video_vae.reconstruction.variants import ModelVariants, piece_frames
from video_vae.tar_members import file_of, stem_of

WRITERS = (".mp4", ".mkv")
"""Endings of what can be written: H.264, and lossless FFV1."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was made."""

    frames: int
    height: int
    width: int
    psnr: float
    """Mean over the frames, in dB, before the result is compressed."""
    seconds: float


def run(args: argparse.Namespace) -> None:
    """Reconstruct the video that was named, and print what came of it."""
    source = Path(args.config).expanduser()
    output = args.output or Path(f"{stem_of(source)}_rec.mp4")
    info = probe_video(source)
    check_output(source, output)
    config = with_options(Config(), args)
    device = pick_device(args.device)
    model: Any = load_checkpoint(args.model, config, args.spatial)
    set_cuts(config, model, max(info.height, info.width))
    model.to(device).spatial.to(memory_format=torch.channels_last)
    seed = config.seed if args.sample else None
    overlap = config.reconstruction.overlap_frames
    variants = ModelVariants(model=model, device=device, seed=seed, overlap=overlap, names=("ori", "rec"))
    with progress(total=info.num_frames, desc=f"reconstruct {source.name}", unit="frames") as bar:
        try:
            made = reconstruct_video(source, info, output, variants, halved(bar.update))
        except Stopped as stopped:
            stopped.keeps_work = False  # one video is one file, which starts over
            raise
    size = f"{made.width}x{made.height}"
    sys.stdout.write(f"{output}: {made.frames} frames, {size}, PSNR {made.psnr:.2f} dB, {made.seconds:.1f} s\n")


def halved(update: Callable[[int], Any]) -> Callable[[int], None]:
    """Count half of a frame where it is read, half where it is written: some nets read all before they write."""
    halves = 0

    def on_frames(frames: int) -> None:
        """Pass on whole frames."""
        nonlocal halves
        before, halves = halves // 2, halves + frames
        if halves // 2 > before:
            update(halves // 2 - before)

    return on_frames


def probe_video(source: Path) -> MediaInfo:
    """Find out what a video holds.

    Raises:
        UserError: if it is missing, no video, or cannot be read.
    """
    try:
        info = probe(source)
    except MediaError as error:
        raise UserError(f"{source} is {error}; give a video that plays") from None
    if info.kind != "video":
        raise UserError(f"{source} is an image; give a video, or a table with --data-path and --images")
    return info


def check_output(source: Path, output: Path) -> None:
    """Refuse an output that cannot be written.

    Raises:
        UserError: if it is the video itself, a folder, a file of others, or its ending is none that is written.
    """
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file that ends in {' or '.join(WRITERS)}")
    if output.suffix.lower() not in WRITERS:
        raise UserError(f"--output {output}: give a name that ends in .mp4 (H.264) or .mkv (lossless)")
    if output.exists() and output.samefile(file_of(source)):
        raise UserError(f"--output {output} is the video itself; name another file")
    raise_if_foreign(output, [STORED if output.suffix.lower() == ".mkv" else PREVIEW])


def reconstruct_video(
    source: Path, info: MediaInfo, output: Path, variants: ModelVariants, on_frames: Callable[[int], Any]
) -> Summary:
    """Write the reconstruction of a whole video at its own size.

    `on_frames` is told of the frames that are read, and again of those that are written.

    Edges are repeated to what the net takes, and cut again.

    Raises:
        UserError: if a frame cannot be decoded. Nothing is written then.
    """
    started = time.monotonic()
    height, width = info.height, info.width
    multiple = variants.model.spatial_compression_ratio
    originals: list[Frames] = []
    scores: list[float] = []
    try:
        with _writer(output, info) as writer:
            decoded = iterate_pieces(source, range(info.num_frames), piece_frames((height, width)))
            pieces = (pad_to_multiple(piece, multiple) for piece in _told(decoded, on_frames))
            for name, frames in variants.run(pieces, source.name, info.num_frames):
                cut = frames[:, :height, :width]
                if name == "ori":
                    originals.append(cut)
                    continue
                writer.write(cut)
                scores += psnr(*_pair(originals, cut)).tolist()
                on_frames(len(cut))
    except MediaError as error:
        raise UserError(f"{source} is {error}; `ffmpeg -i {source} new.mp4` often repairs it") from None
    seconds = time.monotonic() - started
    return Summary(frames=len(scores), height=height, width=width, psnr=float(np.mean(scores)), seconds=seconds)


def _told(pieces: Iterator[Frames], on_frames: Callable[[int], Any]) -> Iterator[Frames]:
    """Pass pieces on; tell of each when the next one is asked for."""
    for piece in pieces:
        yield piece
        on_frames(len(piece))


def _writer(output: Path, info: MediaInfo) -> LosslessWriter | VideoWriter:
    fps = info.fps or 1.0
    if output.suffix.lower() == ".mkv":
        return LosslessWriter(output, fps, frames=info.num_frames)
    return VideoWriter(output, fps)


def _pair(originals: list[Frames], made: Frames) -> Iterator[Tensor]:
    """Take the originals of some frames from those that wait; return both, float (T,3,H,W) in [0,1]."""
    waiting = originals[0] if len(originals) == 1 else np.concatenate(originals)
    originals[:] = [waiting[len(made) :]] if len(waiting) > len(made) else []
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 for frames in (waiting[: len(made)], made))
