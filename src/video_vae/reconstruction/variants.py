"""What is made of a clip: the model's reconstructions, or the baselines that need no temporal VAE.

Frames come and go in pieces, uint8 (t,h,w,3), so that only latents of a whole clip are ever held, never its pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from video_vae.data.transform import Frames, to_tensor, to_uint8
from video_vae.models import VideoAutoencoderKL

PIECE_PIXELS = 17 * 256 * 256
"""Pixels that the spatial VAE takes at once: bounds memory on large frames."""
PIECE_FRAMES = 32
"""Most frames decoded at once."""

Piece = tuple[str, Frames]


class Variants(Protocol):
    """Turns the pieces of a clip into pieces of its variants, every variant as long as the clip."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variants, `ori` first."""
        ...

    def run(self, pieces: Iterator[Frames], clip_id: str) -> Iterator[Piece]:
        """Yield (name, frames), in order within each name."""
        ...


def piece_frames(resolution: tuple[int, int]) -> int:
    """Say how many frames of this height and width are handled at once."""
    return max(1, min(PIECE_FRAMES, PIECE_PIXELS // (resolution[0] * resolution[1])))


@dataclass(frozen=True, kw_only=True)
class ModelVariants:
    """`rec`: through the whole pipeline; `spatial`: through the spatial VAE alone.

    Posteriors give their mode, or, with a seed, a draw that is a function of seed and clip id. Both variants start
    from the same spatial latents.
    """

    model: VideoAutoencoderKL
    device: torch.device
    seed: int | None = None
    names: tuple[str, ...] = ("ori", "rec", "spatial")

    @torch.inference_mode()
    def run(self, pieces: Iterator[Frames], clip_id: str) -> Iterator[Piece]:
        """Yield the pieces of `ori`, `rec` and `spatial`; chunks of the model's `chunk_frames` are independent."""
        generator = self._generator(clip_id)
        for chunk in regroup(pieces, self.model.config["chunk_frames"]):
            latents = []
            for frames in chunk:
                latent = self.model.encode_spatial(to_tensor(frames)[None].to(self.device), generator)
                yield "ori", frames
                yield "spatial", self._decode(latent)
                latents.append(latent)
            sizes = [latent.shape[2] for latent in latents]
            restored = self._through_temporal(torch.cat(latents, dim=2), generator)
            for part in restored.split(sizes, dim=2):
                yield "rec", self._decode(part)

    def _through_temporal(self, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        posterior = self.model.temporal.encode(latents).latent_dist
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return self.model.temporal.decode(z, latents.shape[2]).sample

    def _decode(self, latents: Tensor) -> Frames:
        return to_uint8(self.model.decode_spatial(latents)[0])

    def _generator(self, clip_id: str) -> torch.Generator | None:
        if self.seed is None:
            return None
        digest = hashlib.sha256(f"{self.seed}/{clip_id}".encode()).digest()
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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
    def run(self, pieces: Iterator[Frames], clip_id: str) -> Iterator[Piece]:
        """Yield the pieces of `ori` and `repeat`, and of `mean` once all frames were seen."""
        total: Any = 0
        lengths: list[int] = []
        for chunk in regroup(pieces, self.chunk_frames):
            shown = _Held(self.hold)
            for frames in chunk:
                yield "ori", frames
                yield "repeat", shown.held(frames, self._spatial)
                total, lengths = total + frames.sum(axis=0, dtype=np.int64), [*lengths, len(frames)]
        average = np.rint(total / sum(lengths)).astype(np.uint8)
        for length in lengths:
            yield "mean", np.repeat(average[None], length, axis=0)

    def _spatial(self, frames: Frames) -> Frames:
        pixels = to_tensor(frames).transpose(0, 1).to(self.device)
        latents = self.spatial.encode(pixels).latent_dist.mode()
        return to_uint8(self.spatial.decode(latents).sample.transpose(0, 1))


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


def regroup(pieces: Iterator[Frames], length: int | None) -> Iterator[Iterator[Frames]]:
    """Cut a stream of pieces into groups of `length` frames (None: one group), each again a stream of pieces.

    A group must be used up before the next one is asked for.
    """
    rest: list[Frames] = []  # at most one piece: what lies beyond the end of the group

    def fill() -> bool:
        piece = None if rest else next(pieces, None)
        if piece is not None:
            rest.append(piece)
        return bool(rest)

    def group() -> Iterator[Frames]:
        missing = length
        while missing != 0 and fill():
            frames = rest.pop()
            if missing is not None and len(frames) > missing:
                rest.append(frames[missing:])
                frames = frames[:missing]
            missing = None if missing is None else missing - len(frames)
            yield frames

    while fill():
        yield group()
