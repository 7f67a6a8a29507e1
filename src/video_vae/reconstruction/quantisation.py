"""Latents as whole numbers: uniform quantisation by channel, and how many bits an adaptive arithmetic coder takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RANGE_BITS = 2 * 32
"""Bits of a channel's range: two numbers in single precision."""
FLAG_BITS = 1
"""Says for a channel whether it is entropy-coded: a few numbers take fewer bits at a fixed length."""


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """The latents of a window in 2^bits steps of the same size from the smallest to the largest of each channel."""

    symbols: tuple[Tensor, ...]
    """Step of every number, int64 (B,C,T',H/8,W/8), 0 to 2^bits - 1, in the parts that were given."""
    parts: tuple[Tensor, ...]
    """The same as latents again."""
    bits: int
    """Bits per number."""

    @property
    def raw_bits(self) -> int:
        """Bits at a fixed length per number, with the ranges of the channels."""
        channels = self.parts[0].shape[1]
        return channels * RANGE_BITS + self.bits * sum(part.numel() for part in self.parts)

    @property
    def coded_bits(self) -> int:
        """Bits after entropy coding, each channel by itself where that is shorter, with ranges and flags."""
        return math.ceil(sum(map(self._channel_bits, range(self.parts[0].shape[1]))))

    def _channel_bits(self, channel: int) -> float:
        symbols = torch.cat([part[:, channel].flatten() for part in self.symbols])
        coded = adaptive_bits(torch.bincount(symbols, minlength=2**self.bits))
        return RANGE_BITS + FLAG_BITS + min(coded, float(self.bits * symbols.numel()))


def quantise(parts: Sequence[Tensor], bits: int) -> Quantised:
    """Quantise the latents of a window, parts of (B,C,t,H/8,W/8), to so many bits per number."""
    kept = [part.float() for part in parts]
    flat = [part.transpose(0, 1).flatten(1) for part in kept]
    low = torch.stack([part.amin(dim=1) for part in flat]).amin(dim=0)
    high = torch.stack([part.amax(dim=1) for part in flat]).amax(dim=0)
    low, step = ((value[:, None, None, None]) for value in (low, (high - low) / (2**bits - 1)))
    safe = torch.where(step > 0, step, torch.ones_like(step))  # a channel without range has one step
    symbols = tuple(((part - low) / safe).round().clamp(0, 2**bits - 1).long() for part in kept)
    made = tuple((low + step * part).to(parts[0].dtype) for part in symbols)
    return Quantised(symbols=symbols, parts=made, bits=bits)


def adaptive_bits(counts: Tensor) -> float:
    """Return the bits of an adaptive arithmetic code of order 0, which learns how often each symbol occurs on the way.

    Each symbol is coded with the probability (seen + 1/2) / (all seen + K/2), K symbols in all (Krichevsky and
    Trofimov 1981). So no table is sent, and the sum depends on the counts alone, integers (K,).
    """
    seen, half = counts.double(), torch.tensor(0.5, dtype=torch.float64)
    whole = half * len(counts)
    nats = (
        torch.lgamma(seen.sum() + whole) - torch.lgamma(whole) - (torch.lgamma(seen + half) - torch.lgamma(half)).sum()
    )
    return float(nats) / math.log(2)
