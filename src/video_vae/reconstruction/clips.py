"""Make one clip: decode it piece by piece, run it through the variants, write every variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from video_vae.data.prefetch import prefetched
from video_vae.data.sampling import Sampling
from video_vae.data.storage import STORAGE, LosslessWriter, PreviewWriter
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, resize_crop
from video_vae.data.video import MediaError, iterate_clip, read_clip
from video_vae.provenance import fingerprint
from video_vae.reconstruction.codecs import CodecRival
from video_vae.reconstruction.index import OutputPaths
from video_vae.reconstruction.quantised import QuantisedVariants
from video_vae.reconstruction.rates import Rate, as_rows
from video_vae.reconstruction.rivals import VideosRival
from video_vae.reconstruction.variants import Variants, piece_frames

IMAGE_FPS = 1.0
"""Frame rate that a still image is stored with."""


@dataclass(frozen=True, kw_only=True)
class ClipReconstructor:
    """Everything that shapes the clips of a run."""

    variants: Variants
    paths: OutputPaths
    resolution: tuple[int, int]
    zoom: float = 1.0
    sampling: Sampling
    max_frames: int | None
    settings: dict[str, Any]
    """What shapes the numbers besides: weights, sampling; JSON-like."""

    @property
    def given(self) -> VideosRival | None:
        """Return the videos that somebody else made, where the variants are those."""
        return self.variants if isinstance(self.variants, VideosRival) else None

    @property
    def rates(self) -> list[Rate]:
        """Return where the variants note the rates of the clip that they make; empty where they measure none."""
        return self.variants.rates if isinstance(self.variants, CodecRival | QuantisedVariants) else []

    def misfits(self, clips: Iterable[Clip]) -> dict[str, str]:
        """Say which clips cannot be compared with what was given for them, and why: clip id -> reason."""
        given = self.given
        if given is None:
            return {}
        found = {clip.clip_id: given.misfit(clip.clip_id, self.count(clip), self.resolution) for clip in clips}
        return {clip_id: reason for clip_id, reason in found.items() if reason}

    def count(self, clip: Clip) -> int:
        """Count the frames of a clip that are reconstructed."""
        count = self.sampling.count(clip)
        return count if self.max_frames is None else min(count, self.max_frames)

    def fingerprint(self, clip: Clip) -> str:
        """Identify a clip's result by all that shapes it."""
        source = [clip.source_id, clip.start_frame, clip.kind, clip.fps]
        frames = [self.count(clip), *self.sampling.identity(), list(self.resolution), self.zoom]
        given = [] if self.given is None else [self.given.identity(clip.clip_id)]
        return fingerprint([self.settings, list(self.variants.names), source, frames, STORAGE, *given])

    def make(self, clip: Clip, on_frames: Callable[[int], Any]) -> dict[str, str]:
        """Reconstruct a clip and record it; return its index row. `on_frames` is told of the frames done.

        Raises:
            MediaError: if the clip cannot be decoded. Nothing of it is left then.
        """
        self.paths.discard(clip.clip_id)
        self.rates.clear()
        try:
            hashes = self._write(clip, on_frames)
        except MediaError:
            self.paths.discard(clip.clip_id)
            raise
        row = self._row(clip, hashes)
        self.paths.keep(clip.clip_id, self.fingerprint(clip), row, as_rows(self.rates))
        return row

    def _write(self, clip: Clip, on_frames: Callable[[int], Any]) -> dict[str, str]:
        with ExitStack() as stack:
            files = {name: stack.enter_context(self._lossless(clip, name)) for name in self.variants.names}
            shown = {}
            if self.paths.previewed(clip.clip_id):
                paths = {name: self.paths.preview(clip.clip_id, name) for name in self.variants.names}
                shown = {
                    name: stack.enter_context(PreviewWriter(path, self._fps(clip))) for name, path in paths.items()
                }
            for name, frames in self.variants.run(self._pieces(clip), clip.clip_id, self.count(clip)):
                files[name].write(frames)
                if name in shown:
                    shown[name].write(frames)
                if name == self.variants.names[-1]:
                    on_frames(len(frames))
            return {name: file.sha256 for name, file in files.items()}

    def _lossless(self, clip: Clip, variant: str) -> LosslessWriter:
        meta = {
            "clip_id": clip.clip_id,
            "variant": variant,
            "source_id": clip.source_id,
            "source": Path(clip.path).name,
            "start_frame": clip.start_frame,
            "frame_interval": self.sampling.frame_interval,
            **({} if self.sampling.fps is None else {"resampled_fps": self.sampling.fps}),
            "fingerprint": self.fingerprint(clip),
            **({} if self.given is None or variant == "ori" else self.given.identity(clip.clip_id)),
        }
        path = self.paths.clip(clip.clip_id, variant)
        return LosslessWriter(path, self._fps(clip), frames=self.count(clip), meta=meta)

    def first_frames(self, clip: Clip, count: int) -> Frames:
        """Read the first frames of a clip as the model sees them, at most so many.

        Raises:
            MediaError: if they cannot be decoded.
        """
        return resize_crop(read_clip(clip, self.sampling.indices(clip)[:count]), self.resolution, self.zoom)

    def _pieces(self, clip: Clip) -> Iterator[Frames]:
        """Decode a clip, a piece ahead of the net."""
        indices = self.sampling.indices(clip)[: self.max_frames]
        see = partial(resize_crop, resolution=self.resolution, zoom=self.zoom)
        return prefetched(iterate_clip(clip, indices, piece_frames(self.resolution), see), 1)

    def _fps(self, clip: Clip) -> float:
        return self.sampling.rate(clip.fps or IMAGE_FPS) if clip.kind == "video" else IMAGE_FPS

    def _row(self, clip: Clip, hashes: dict[str, str]) -> dict[str, str]:
        return {
            "clip_id": clip.clip_id,
            "frames": str(self.count(clip)),
            "height": str(self.resolution[0]),
            "width": str(self.resolution[1]),
            "fps": f"{self._fps(clip):.6g}",
            "source": clip.path,
            "start_frame": str(clip.start_frame),
            **{f"{name}_sha256": value for name, value in hashes.items()},
        }
