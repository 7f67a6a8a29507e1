"""What is made of a clip: the model's reconstructions, or the baselines that need no temporal VAE.

Frames come and go in pieces, uint8 (t,h,w,3), so that only latents of a whole clip are ever held, never its pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from video_vae.data.transform import Frames, to_tensor, to_uint8
from video_vae.models import DiagonalGaussian, VideoAutoencoderKL
from video_vae.models.frames import frames_at_once

PIECE_PIXELS = 17 * 256 * 256
"""Pixels decoded from the file at once."""
PIECE_FRAMES = 32
"""Most frames decoded at once."""

Piece = tuple[str, Frames]


class Variants(Protocol):
    """Turns the pieces of a clip into pieces of its variants, every variant as long as the clip."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variants, `ori` first."""
        ...

    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:
        """Yield (name, frames), in order within each name."""
        ...


def frame_by_frame(spatial: Any, device: torch.device, frames: Frames) -> Frames:
    """Pass frames, uint8 (t,h,w,3), one by one through a spatial VAE, with the mode of its posterior."""
    size = frames_at_once(device, frames.shape[1] * frames.shape[2])
    pixels = to_tensor(frames).transpose(0, 1).to(device)
    parts = [spatial.decode(spatial.encode(part).latent_dist.mode()).sample for part in pixels.split(size)]
    return to_uint8(torch.cat(parts).transpose(0, 1))


def piece_frames(resolution: tuple[int, int]) -> int:
    """Say how many frames of this height and width are handled at once."""
    return max(1, min(PIECE_FRAMES, PIECE_PIXELS // (resolution[0] * resolution[1])))


@dataclass(frozen=True, kw_only=True)
class ModelVariants:
    """`rec`: through the whole pipeline; `spatial`, where it is among the names: through the spatial VAE alone.

    Posteriors give their mode, or, with a seed, a draw that is a function of seed and clip id. Both variants start
    from the same spatial latents.
    """

    model: VideoAutoencoderKL
    device: torch.device
    seed: int | None = None
    overlap: int = 0
    """Frames that consecutive chunks share, blended."""
    names: tuple[str, ...] = ("ori", "rec", "spatial")

    @torch.inference_mode()
    def run(
        self,
        pieces: Iterator[Frames],
        clip_id: str,
        num_frames: int,
        on_latents: Callable[[Tensor], Any] = lambda _: None,
    ) -> Iterator[Piece]:
        """Yield the pieces of `ori`, `rec` and `spatial`; `on_latents` is shown the temporal latents on their way.

        Chunks of the model's `chunk_frames` are independent, but for the frames that they share. Without chunks a
        strictly causal net streams, in memory that does not grow with the clip; any other net needs the latents of
        the whole clip at once.
        """
        generator = self._generator(clip_id)
        done: list[Piece] = []

        def spatial_latents() -> Iterator[Tensor]:
            """Encode the pieces, cut where chunks end, keeping what is shown of them meanwhile."""
            length = self.model.config["chunk_frames"]
            for frames in chain.from_iterable(regroup(pieces, length and length - self.overlap, first=length)):
                latents = self.model.encode_spatial(to_tensor(frames)[None].to(self.device), generator)
                done.append(("ori", frames))
                if "spatial" in self.names:
                    done.append(("spatial", self._decode(latents)))
                yield latents

        posteriors = self._encoded(spatial_latents(), num_frames)
        z = (posterior.mode() if generator is None else posterior.sample(generator) for posterior in posteriors)
        for latents in self._decoded(_shown(z, on_latents), num_frames):
            for part in latents.split(PIECE_FRAMES, dim=2):
                yield from done
                done.clear()
                yield "rec", self._decode(part)
        yield from done

    def _encoded(self, latents: Iterator[Tensor], num_frames: int) -> Iterator[DiagonalGaussian]:
        if not self.model.streams:
            return iter([self.model.temporal_posterior(torch.cat(list(latents), dim=2))])
        return self.model.posterior_stream(latents, num_frames, self.overlap)

    def _decoded(self, z: Iterator[Tensor], num_frames: int) -> Iterator[Tensor]:
        if not self.model.streams:
            return (self.model.decode_chunk(part, num_frames) for part in z)
        return self.model.decode_temporal_stream(z, num_frames, self.overlap)

    def _decode(self, latents: Tensor) -> Frames:
        factor = self.model.spatial_compression_ratio
        size = piece_frames((latents.shape[3] * factor, latents.shape[4] * factor))
        parts = latents.split(size, dim=2)
        return np.concatenate([to_uint8(self.model.decode_spatial(part)[0]) for part in parts])

    def _generator(self, clip_id: str) -> torch.Generator | None:
        if self.seed is None:
            return None
        digest = hashlib.sha256(f"{self.seed}/{clip_id}".encode()).digest()
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _shown(latents: Iterator[Tensor], on_latents: Callable[[Tensor], Any]) -> Iterator[Tensor]:
    for part in latents:
        on_latents(part)
        yield part


@dataclass(frozen=True, kw_only=True)
class BaselineVariants:
    """`mean`: the clip's average frame throughout; `repeat`: every fourth spatial latent, held until the next.

    `repeat` spends as many latents as the temporal VAE. Groups start at the first frame of a chunk, so that each frame
    shows the nearest latent before it and a chunk of 17 frames holds 5, the last of them exact.
    """

    spatial: Any
    device: torch.device
    hold: int
    chunk_frames: int | None
    names: tuple[str, ...] = ("ori", "mean", "repeat")

    @torch.inference_mode()
    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:
        """Yield the pieces of `ori` and `repeat`, and of `mean` once all frames were seen."""
        total: Any = 0
        lengths: list[int] = []
        for chunk in regroup(pieces, self.chunk_frames):
            shown = _Held(self.hold)
            for frames in chunk:
                yield "ori", frames
                yield "repeat", shown.held(frames, partial(frame_by_frame, self.spatial, self.device))
                total, lengths = total + frames.sum(axis=0, dtype=np.int64), [*lengths, len(frames)]
        average = np.rint(total / sum(lengths)).astype(np.uint8)
        for length in lengths:
            yield "mean", np.repeat(average[None], length, axis=0)


class _Held:
    """Shows every `hold`-th frame of a chunk until the next one, over the chunk's pieces."""

    def __init__(self, hold: int) -> None:
        self._hold = hold
        self._position = 0
        self._last: Frames | None = None

    def held(self, frames: Frames, function: Callable[[Frames], Frames]) -> Frames:
        """Pass the kept frames of a piece through a function; return as many frames as the piece has."""
        groups = [(self._position + index) // self._hold for index in range(len(frames))]
        kept = [index for index in range(len(frames)) if (self._position + index) % self._hold == 0]
        fresh = [function(frames[kept])] if kept else []
        shown = np.concatenate(([] if self._last is None else [self._last]) + fresh)
        first = groups[0] if self._last is None or kept[:1] != [0] else groups[0] - 1
        self._position, self._last = self._position + len(frames), shown[-1:]
        result: Frames = shown[[group - first for group in groups]]
        return result


def regroup(pieces: Iterator[Frames], length: int | None, *, first: int | None = None) -> Iterator[Iterator[Frames]]:
    """Cut a stream of pieces into groups of `length` frames (None: one group), each again a stream of pieces.

    The first group has `first` frames where that is given.
    A group must be used up before the next one is asked for.
    """
    rest: list[Frames] = []  # at most one piece: what lies beyond the end of the group

    def fill() -> bool:
        """Read a piece where none is buffered; tell whether there is one."""
        piece = None if rest else next(pieces, None)
        if piece is not None:
            rest.append(piece)
        return bool(rest)

    def group(missing: int | None) -> Iterator[Frames]:
        """Yield the pieces of one group."""
        while missing != 0 and fill():
            frames = rest.pop()
            if missing is not None and len(frames) > missing:
                rest.append(frames[missing:])
                frames = frames[:missing]
            missing = None if missing is None else missing - len(frames)
            yield frames

    if fill():
        yield group(first or length)
    while fill():
        yield group(length)
