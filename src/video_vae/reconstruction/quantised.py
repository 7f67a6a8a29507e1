"""The model's reconstructions, and what quantising its latents to few bits per number costs and loses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from video_vae.data.transform import Frames
from video_vae.reconstruction.quantisation import Quantised, quantise
from video_vae.reconstruction.rates import Rate, mean_psnr
from video_vae.reconstruction.variants import ModelVariants, Piece


@dataclass(frozen=True, kw_only=True)
class QuantisedVariants(ModelVariants):
    """Besides the model's variants, its latents quantised; the last of the names is decoded of the finest."""

    latent_bits: tuple[int, ...]
    """Bits per number, each measured."""
    rates: list[Rate] = field(default_factory=list)
    """Gets what each costs and loses."""

    @torch.inference_mode()
    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:  # type: ignore[override]
        """Yield the pieces of all variants; holds the frames and latents of the clip."""
        original: list[Frames] = []
        latents: list[Tensor] = []
        for name, frames in super().run(pieces, clip_id, num_frames, latents.append):
            if name == "ori":
                original.append(frames)
            yield name, frames
        real = np.concatenate(original)
        for bits in self.latent_bits:
            quantised = quantise(latents, bits)
            made = np.concatenate([self._decode(part) for part in self._decoded(iter(quantised.parts), num_frames)])
            self.rates.append(_rate(quantised, real, made))
            if bits == max(self.latent_bits):
                yield self.names[-1], made


def _rate(quantised: Quantised, real: Frames, made: Frames) -> Rate:
    return Rate(
        name="rec",
        setting=quantised.bits,
        pixels=real[..., 0].size,
        bits=quantised.coded_bits,
        raw_bits=quantised.raw_bits,
        budget=0,
        psnr=mean_psnr(real, made),
    )
