"""A 3-D patch discriminator, which tells patches of clips from those of their reconstructions.

Convolutions as in a PatchGAN (Isola et al. 2017, section 3.2), in time as well, and blur pooling in place of strides
(Zhang 2019). Norms see a clip alone, so that no clip's logits depend on what else is in the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_vae.models.blocks import as_weights

WIDEST = 8
"""Most channels of a layer, in units of the first one's."""
GROUPS = 8
"""Groups of channels that are normalised together, where they divide the channels."""
SLOPE = 0.2
"""Of the leaky ReLUs below zero."""
START_SPREAD = 0.02
"""Standard deviation of fresh weights (Isola et al. 2017)."""


def blur_pool(x: Tensor, dims: Sequence[int] = (2, 3, 4)) -> Tensor:
    """Halve dimensions: the filter [1, 2, 1] / 4 along each, then every second place, from the first one.

    Beyond its ends a dimension goes on with its last value, so that one place stays as it is and n become ceil(n / 2).
    Zhang 2019, section 3.2, with the triangle filter. Shifted inputs keep nearly the same outputs; nothing finer than
    the new grid is folded into it.
    """
    for dim in dims:
        size = x.shape[dim]
        padded = torch.cat((x.narrow(dim, 0, 1), x, x.narrow(dim, size - 1, 1)), dim)
        places = (slice(None),) * dim
        left, middle, right = (padded[(*places, slice(first, first + size, 2))] for first in range(3))
        x = (left + right) / 4 + middle / 2
    return x


def _convolved(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Convolve (B, C, T, H, W), on processors with a frame of zeros behind a single one, as the padding is anyway.

    oneDNN leaves the gradient of a single frame with an odd number of channels unwritten there, in bf16 on processors
    with AMX (torch 2.14.1; 44 shapes of 288 tried, all of them such).
    """
    if x.shape[2] > 1 or x.shape[1] % 2 == 0 or x.device.type != "cpu":
        found: Tensor = conv(x)
        return found
    both: Tensor = conv(F.pad(x, (0, 0, 0, 0, 0, 1)))
    return both[:, :, :1]


class PatchLayer(nn.Module):
    """Convolve, normalise where asked, activate, and halve time, height and width."""

    def __init__(self, in_channels: int, out_channels: int, normalised: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=not normalised)
        self.norm = nn.GroupNorm(math.gcd(GROUPS, out_channels), out_channels) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, T, H, W) to (B, out, ceil(T / 2), ceil(H / 2), ceil(W / 2))."""
        return blur_pool(F.leaky_relu(self.norm(_convolved(self.conv, x)), SLOPE))


class PatchDiscriminator(nn.Module):
    """Give each patch of a clip a logit: above zero is real, below is reconstructed.

    With three layers a logit stands for 8 frames and 8x8 pixels, and its convolutions see 45 of each.

    Args:
        channels: of the first layer; each next one has twice as many, at most 8 times these.
        layers: number of layers, each of which halves time, height and width.
        recompute: recompute the activations in the backward pass: less memory, more time.
    """

    def __init__(self, channels: int = 32, layers: int = 3, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        widths = [3, *(channels * min(2**level, WIDEST) for level in range(layers))]
        pairs = enumerate(itertools.pairwise(widths))
        self.layers = nn.ModuleList(PatchLayer(a, b, normalised=level > 0) for level, (a, b) in pairs)
        self.conv_out = nn.Conv3d(widths[-1], 1, 3, padding=1)

    @torch.no_grad()
    def start(self, generator: torch.Generator) -> None:
        """Draw fresh weights, a function of the generator alone; biases start at zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.normal_(0.0, START_SPREAD, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (B, 3, T, H, W), pixels in [-1, 1], to logits (B, 1, T', H', W'), each side halved by each layer.

        Any T, H, W from 1 on: an image is a clip of one frame.
        """
        x = as_weights(x, self.conv_out.weight)
        recomputed = self.recompute and torch.is_grad_enabled()
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if recomputed else layer(x)
        result: Tensor = self.conv_out(x)
        return result
