"""Write shards of the latent cache: clips encoded frame by frame with the frozen spatial VAE."""

from __future__ import annotations

import argparse
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from video_vae.config import Config, load_config
from video_vae.config.slices import seen_at
from video_vae.data.content import raise_if_source_missing
from video_vae.data.identity import is_content_id
from video_vae.data.kept import keep
from video_vae.data.prefetch import prefetched
from video_vae.data.probed import FORMAT as PROBED_FORMAT
from video_vae.data.sampling import Sampling
from video_vae.data.sharding import content_of, shard_clips
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, look, to_tensor, whole
from video_vae.data.video import MediaError, iterate_clip
from video_vae.data.view import View, whole_size
from video_vae.distributed.device import pick_device
from video_vae.errors import UserError
from video_vae.files import atomic_path, remove_written
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.latents.cache import CHANNELS, NOTE, entry, write_latents
from video_vae.latents.reuse import PARTS, take_over
from video_vae.models.frames import frames_at_once
from video_vae.progress import progress
from video_vae.provenance import RECORD, fingerprint, run_record, write_json_atomic
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_spatial

log = logging.getLogger(__name__)

PIECE_FRAMES = 32
"""Frames handled at once: bounds the memory of long clips."""
AHEAD = 2
"""Pieces of so many frames, already resized, that a thread decodes while the net encodes."""


@dataclass(frozen=True, kw_only=True)
class _Encoder:
    """The frozen spatial VAE and everything that shapes the cached numbers."""

    net: Any
    device: torch.device
    settings: dict[str, Any]
    sampling: Sampling

    def views(self) -> list[View | None]:
        """List how each clip is seen: its centre or its whole frames at some scales, mirrored too where that trains."""
        flips = (False, True) if self.settings.get("flip") else (False,)
        if self.settings.get("crop") == "random":
            scales = self.settings["scales"]
            return [View(zoom=zoom, place=(0.0, 0.0), flip=flip) for zoom in scales for flip in flips]
        return [View(zoom=self.settings["zoom"], flip=True) if flip else None for flip in flips]

    def size(self, clip: Clip, view: View | None) -> tuple[int, int]:
        """Give the height and width, in pixels, at which a clip's frames are encoded."""
        height, width = self.settings["resolution"]
        if view is None or view.place is None:
            return height, width
        return whole_size((clip.height, clip.width), (height, width), view.zoom)

    def shape(self, clip: Clip, view: View | None) -> tuple[int, ...]:
        """Give the shape of a clip's moments, (T,8,h,w)."""
        height, width = self.size(clip, view)
        return (self.sampling.count(clip), CHANNELS, height // 8, width // 8)

    def moments(self, clip: Clip, views: Sequence[View | None]) -> Iterator[tuple[View | None, np.ndarray]]:
        """Encode a clip a few frames at a time, decoded once for all views: arrays (t,8,h,w) in the cache's format.

        Raises:
            MediaError: if a frame cannot be decoded, or its moments do not fit the number format.
        """
        for view, frames in prefetched(self._pieces(clip, views), AHEAD):
            yield from ((view, moments) for moments in self._moments(frames, self.size(clip, view)))

    def _pieces(self, clip: Clip, views: Sequence[View | None]) -> Iterator[tuple[View | None, Frames]]:
        indices = self.sampling.indices(clip)
        if len(views) == 1:
            see = partial(self._seen, view=views[0])
            yield from ((views[0], seen) for seen in iterate_clip(clip, indices, PIECE_FRAMES, see))
            return
        for decoded in iterate_clip(clip, indices, PIECE_FRAMES):
            for view in views:
                yield view, self._seen(decoded, view)

    def _moments(self, frames: Frames, size: tuple[int, int]) -> Iterator[np.ndarray]:
        if frames.shape[1:3] != size:
            raise MediaError("unreadable", f"frames of {frames.shape[1:3]} where the table says {size}")
        pixels = to_tensor(frames).transpose(0, 1)
        for part in pixels.split(frames_at_once(self.device, size[0] * size[1])):
            moments = self._encode(part).astype(self.settings["dtype"])
            if not np.isfinite(moments).all():
                raise MediaError("unreadable", f"its latents are not finite as {self.settings['dtype']}")
            yield moments

    def _seen(self, frames: Frames, view: View | None) -> Frames:
        resolution = (self.settings["resolution"][0], self.settings["resolution"][1])
        if view is None or view.place is None:
            return look(frames, resolution, view or View(zoom=self.settings["zoom"]))
        seen = whole(frames, resolution, view.zoom)
        return seen[:, :, ::-1] if view.flip else seen

    @torch.inference_mode()
    def _encode(self, frames: Tensor) -> np.ndarray:
        posterior = self.net.encode(frames.to(self.device)).latent_dist
        moments: np.ndarray = posterior.parameters.float().cpu().numpy()
        return moments


_PART = re.compile(r".+\.[0-9a-f]{16}")
"""Name of an encoded clip among the parts of a shard."""


def run(args: argparse.Namespace) -> None:
    """Encode the clips of one shard and write them with a record of the run beside them."""
    started = time.time()
    config = seen_at(load_config(args.config), args.resolution)
    check_places({args.output: [NOTE], args.output.with_suffix(f".{RECORD}"): RECORD_TRAITS})
    clips = shard_clips(args.data_path, args.shard, args.shards, config.data.columns)
    if config.data.crop == "random":  # scores look at the centre, and so does the validation: from pixels
        clips = [clip for clip in clips if clip.split != "test"]
    encoder = _load(config, args.spatial, pick_device(args.device))
    failed = _encode_all(clips, encoder, args.output, args.reuse)
    if failed and len(failed) == len(clips):
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"none of {len(clips)} clips can be encoded, such as {name} ({reason}); check the table's paths"
        )
    _assemble(clips, failed, encoder, args)
    read = {f"table_{number}": path for number, path in enumerate(args.data_path)}
    record = run_record(
        "encode-latents",
        config,
        read | ({"spatial": args.spatial} if args.spatial else {}),
        outputs={"shard": args.output},
        started=started,
        clips=len(clips) - len(failed),
        frames=sum(encoder.sampling.count(clip) for clip in clips if clip.clip_id not in failed),
        failed=failed,
        settings=encoder.settings,
    )
    write_json_atomic(args.output.with_suffix(f".{RECORD}"), record)
    keep(args.output)


def _load(config: Config, folder: Path | None, device: torch.device) -> _Encoder:
    net: Any = load_spatial(config.spatial, folder)
    net.eval().requires_grad_(False)
    sampling = Sampling.of(config.data)
    settings = {
        "spatial_sha256": weights_sha256(net.state_dict()),
        "resolution": list(config.data.resolution),
        "zoom": config.data.zoom,
        "frame_interval": sampling.frame_interval,
        **({} if sampling.fps is None else {"fps": sampling.fps}),
        "dtype": config.latents.dtype,
    }
    if config.data.crop == "random":
        settings |= {"crop": "random", "scales": list(config.data.scales)}
    if config.data.flip:
        settings["flip"] = True
    # channels last is the faster layout for its convolutions on every device
    return _Encoder(
        net=net.to(device, memory_format=torch.channels_last), device=device, settings=settings, sampling=sampling
    )


def _encode_all(clips: list[Clip], encoder: _Encoder, output: Path, reuse: Path | None = None) -> dict[str, str]:
    """Encode what no earlier run did; return the clips that cannot be, and why."""
    failed: dict[str, str] = {}
    known = [clip for clip in clips if is_content_id(clip.source_id)]
    wanted = {_key(clip, view, encoder): (clip, view) for clip in known for view in encoder.views()}
    taken = take_over({key: _part(*held, encoder, output) for key, held in wanted.items()}, output, reuse)
    if taken:
        log.info("%d of %d clips are in an earlier cache", taken // len(encoder.views()), len(clips))
    total = sum(encoder.sampling.count(clip) for clip in clips) * len(encoder.views())
    with progress(total=total, desc="encode latents", unit="frames") as bar:
        for clip in clips:
            try:
                _encode_clip(clip, encoder, output, bar)
            except MediaError as error:
                raise_if_source_missing(clip, error)
                failed[clip.clip_id] = str(error)
                log.warning("%s (%s) is left out: %s", clip.clip_id, clip.path, error)
    return failed


def _encode_clip(clip: Clip, encoder: _Encoder, output: Path, bar: Any) -> None:
    """Write the parts of a clip that are not there yet, one per view."""
    missing: dict[View | None, Path] = {}
    for view in encoder.views():
        part = _part(clip, view, encoder, output)
        size = int(np.prod(encoder.shape(clip, view))) * np.dtype(encoder.settings["dtype"]).itemsize
        if part.exists() and part.stat().st_size == size:
            bar.skip(encoder.sampling.count(clip))
        else:
            missing[view] = part
    if not missing:
        return
    with ExitStack() as stack:
        asides = {view: stack.enter_context(atomic_path(part, known=True)) for view, part in missing.items()}
        streams = {view: stack.enter_context(aside.open("wb")) for view, aside in asides.items()}
        for view, moments in encoder.moments(clip, list(missing)):
            streams[view].write(np.ascontiguousarray(moments).data)
            bar.update(len(moments))


def _key(clip: Clip, view: View | None, encoder: _Encoder) -> str:
    """Identify what is cached of a clip: by content, by settings, and by how this version reads files."""
    seen = [] if view is None else [str(view)]
    return fingerprint([encoder.settings, *content_of(clip), clip.kind, PROBED_FORMAT, *seen])


def _part(clip: Clip, view: View | None, encoder: _Encoder, output: Path) -> Path:
    return _parts_folder(output) / f"{clip.clip_id}.{_key(clip, view, encoder)}"


def _parts_folder(output: Path) -> Path:
    return output.parent / f".{output.stem}.parts"


def _assemble(clips: list[Clip], failed: dict[str, str], encoder: _Encoder, args: argparse.Namespace) -> None:
    good = [clip for clip in clips if clip.clip_id not in failed]
    held = {entry(clip.clip_id, view): (clip, view) for clip in good for view in encoder.views()}
    parts = {name: _part(clip, view, encoder, args.output) for name, (clip, view) in held.items()}
    note = {**encoder.settings, "failed": failed, "shard": [args.shard, args.shards]}
    note["clips"] = {clip.clip_id: [clip.source_id, clip.start_frame, clip.num_frames] for clip in good}
    note[PARTS] = {name: _key(clip, view, encoder) for name, (clip, view) in held.items()}
    shapes = {name: encoder.shape(clip, view) for name, (clip, view) in held.items()}
    write_latents(args.output, parts, shapes, encoder.settings["dtype"], note)
    folder = _parts_folder(args.output)
    remove_written(folder, [part.name for part in folder.glob("*") if _PART.fullmatch(part.name)])
