"""A video codec on the same windows, in no more bits than their latents cost: a reference for the video VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from video_vae.config import Codec, Config
from video_vae.config.rivals import CODEC_BITS
from video_vae.data.codecs import COARSEST, FINEST, PRESET, Coded, decode, encode, lack, planes
from video_vae.data.transform import Frames
from video_vae.errors import UserError
from video_vae.models.chunks import chunk_spans
from video_vae.reconstruction.rates import Rate, mean_psnr
from video_vae.reconstruction.variants import Piece

CURVE = (15.0, 21.0, 27.0, 33.0, 39.0, 45.0, 51.0)
"""Quality numbers that every window is coded at, for the curve."""
STEP = 0.25
"""How close the search comes to the quality number that takes just the bits."""
CHANNELS, SIDE = 4, 8


def latent_numbers(config: Config, frames: int) -> int:
    """Count the numbers of a window's latents by the config: 4 channels at 4x8x8, with chunks and what they share."""
    height, width = config.data.resolution
    factor = 2 ** sum(config.model.temporal.temporal_downsample)
    spans = chunk_spans(frames, config.chunk_frames, config.reconstruction.overlap_frames)
    return CHANNELS * sum(-(-len(span) // factor) for span in spans) * -(-height // SIDE) * -(-width // SIDE)


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A window and how it was coded so far."""

    codec: Codec
    frames: Frames
    tried: dict[float, Coded] = field(default_factory=dict)

    @cached_property
    def _pictures(self) -> list[Any]:
        return planes(self.frames)

    def coded(self, crf: float) -> Coded:
        """Code it, once at each quality."""
        if crf not in self.tried:
            self.tried[crf] = encode(self.codec, self._pictures, crf)
        return self.tried[crf]

    def shown(self, crf: float) -> Frames:
        """Decode what was coded."""
        return decode(self.coded(crf), *self.frames.shape[1:3])

    def finest(self, budget: int) -> float:
        """Search for the finest quality within a number of bits, by halves between those of the curve.

        Where even the coarsest takes more, that one is given.
        """
        if self.coded(COARSEST).bits > budget:
            return COARSEST
        tried = (FINEST, *CURVE)
        fits = next(place for place, crf in enumerate(tried) if self.coded(crf).bits <= budget)
        low, high = tried[max(fits - 1, 0)], tried[fits]
        while high - low > STEP:
            middle = (low + high) / 2
            low, high = (low, middle) if self.coded(middle).bits <= budget else (middle, high)
        return high

    def rate(self, crf: float, shown: Frames, budget: int = 0) -> Rate:
        """Say what coding at a quality takes and loses."""
        return Rate(
            name=self.codec,
            setting=crf,
            pixels=self.frames[..., 0].size,
            bits=self.coded(crf).bits,
            raw_bits=0,
            budget=budget,
            psnr=mean_psnr(self.frames, shown),
        )


@dataclass(frozen=True, kw_only=True)
class CodecRival:
    """Each window through a codec, in at most the bits of its latents; `rates` gets what was tried for the curve."""

    codec: Codec
    names: tuple[str, ...]
    """`ori`, and the rival's name."""
    budget: Callable[[int], int]
    """Bits of a window of so many frames."""
    rates: list[Rate] = field(default_factory=list)

    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:
        """Yield the pieces of both; holds the frames of the window."""
        kept = []
        for frames in pieces:
            yield "ori", frames
            kept.append(frames)
        window = _Window(codec=self.codec, frames=np.concatenate(kept))
        self.rates.extend(window.rate(crf, window.shown(crf)) for crf in CURVE)
        budget = self.budget(num_frames)
        chosen = window.finest(budget)
        shown = window.shown(chosen)
        self.rates.append(window.rate(chosen, shown, budget))
        yield self.names[1], shown


def codec_rival(name: str, codec: Codec, config: Config) -> tuple[CodecRival, dict[str, Any]]:
    """Make the rival of a config that is a codec; also give the settings that shape its clips.

    Raises:
        UserError: if this PyAV lacks it.
    """
    if why := lack(codec):
        raise UserError(f"compare.{name}.codec: {why}; or leave the rival out")
    import av

    made = CodecRival(
        codec=codec, names=("ori", name), budget=lambda frames: CODEC_BITS * latent_numbers(config, frames)
    )
    latents = {
        "chunk_frames": config.chunk_frames,
        "overlap_frames": config.reconstruction.overlap_frames,
        "temporal_downsample": list(config.model.temporal.temporal_downsample),
    }
    return made, {"rival": name, "codec": codec, "preset": PRESET, "av": av.__version__, "latents": latents}
