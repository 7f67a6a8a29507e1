"""Start the temporal VAE as linear interpolation between every fourth latent.

A short training then improves on interpolation, instead of learning the identity first.
The encoder keeps the last latent of each group of four, the decoder interpolates linearly between the kept ones: all
residual branches start at zero, and the trunk carries each latent channel ``a`` in quadruples of channels
``(+a, -a, +c, -c)``. The pair makes the activation exact (``silu(x) - silu(-x) = x``), and the constants ``c``
dominate the statistics of the group norms, so that a clip's own contrast passes through them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from video_vae.models.blocks import CausalConv3d, ResBlock, TimeDownsample, TimeUpsample
from video_vae.models.temporal import TemporalAutoencoderKL

CONSTANT = 8.0
LOGVAR = -10.0


@torch.no_grad()
def start_as_interpolation(net: TemporalAutoencoderKL) -> None:
    """Set the weights of a fresh net, in place, so that it interpolates between every fourth latent.

    Raises:
        ValueError: if the groups of the norms do not hold whole quadruples of channels, or no level halves the frame
            rate in the encoder (the constants live in the biases there).
    """
    latents = net.config["latent_channels"]
    base, groups = net.config["base_channels"], net.config["norm_num_groups"]
    if (base // groups) % 4 or base < 4 * latents or not any(net.config["temporal_downsample"]):
        raise ValueError(
            f"init: interpolate needs groups of 4n channels, at least {4 * latents} channels and a temporal "
            f"downsample; base_channels {base} with norm_num_groups {groups} has not"
        )
    for module in net.modules():
        if isinstance(module, ResBlock):
            module.conv2.conv.weight.zero_()
            if module.conv3 is not None:
                _copy_channels(module.conv3)
    _encoder(net, latents)
    _decoder(net, latents)
    for conv in (net.quant_conv, net.post_quant_conv):
        _copy_channels(conv)


def _encoder(net: TemporalAutoencoderKL, latents: int) -> None:
    _spread(net.encoder.conv_in, latents)
    downs = [module for module in net.encoder.conv_blocks if isinstance(module, TimeDownsample)]
    for index, down in enumerate(downs):
        _copy_channels(down)
        if index == 0:
            _set_constants(down)
    _gather(net.encoder.norm1, net.encoder.conv2, latents)
    _bias(net.encoder.conv2)[latents:] = LOGVAR


def _decoder(net: TemporalAutoencoderKL, latents: int) -> None:
    _spread(net.decoder.conv1, latents)
    for up in net.decoder.conv_blocks:
        if isinstance(up, TimeUpsample):
            _interpolate(up)
    _gather(net.decoder.norm1, net.decoder.conv_out, latents)


def _bias(conv: CausalConv3d) -> Tensor:
    if conv.conv.bias is None:
        raise ValueError("the convolution has no bias")
    return conv.conv.bias


def _now(conv: CausalConv3d) -> Tensor:
    """Return the weights that see the current pixel of the newest frame, (out, in), as a view."""
    middle = conv.conv.kernel_size[1] // 2
    return conv.conv.weight[:, :, -1, middle, middle]


def _clear(conv: CausalConv3d) -> None:
    conv.conv.weight.zero_()
    if conv.conv.bias is not None:
        conv.conv.bias.zero_()


def _copy_channels(conv: CausalConv3d) -> None:
    _clear(conv)
    now = _now(conv)
    out = torch.arange(now.shape[0])
    now[out, out % now.shape[1]] = 1.0


def _spread(conv: CausalConv3d, latents: int) -> None:
    _clear(conv)
    now = _now(conv)
    for quad in range(now.shape[0] // 4):
        now[4 * quad, quad % latents] = 1.0
        now[4 * quad + 1, quad % latents] = -1.0


def _set_constants(conv: CausalConv3d) -> None:
    bias = _bias(conv)
    bias[2::4] = CONSTANT
    bias[3::4] = -CONSTANT


def _interpolate(up: TimeUpsample) -> None:
    _clear(up)
    middle = up.conv.kernel_size[1] // 2
    # The constants are set again here: frames before the first are zeros, and would halve them.
    _bias(up).view(-1, 2)[2::4] = CONSTANT
    _bias(up).view(-1, 2)[3::4] = -CONSTANT
    channels = torch.arange(up.conv.in_channels)
    channels = channels[channels % 4 < 2]
    up.conv.weight[2 * channels, channels, -2:, middle, middle] = 0.5
    up.conv.weight[2 * channels + 1, channels, -1, middle, middle] = 1.0


def _gather(norm: nn.GroupNorm, conv: CausalConv3d, latents: int) -> None:
    """Undo the norm's scale for latents of unit variance and take the differences of the pairs."""
    norm.weight.fill_(math.sqrt((1.0 + CONSTANT**2) / 2.0))
    norm.bias.zero_()
    _clear(conv)
    now = _now(conv)
    quads = now.shape[1] // 4
    for channel in range(latents):
        copies = torch.arange(channel, quads, latents)
        now[channel, 4 * copies] = 1.0 / len(copies)
        now[channel, 4 * copies + 1] = -1.0 / len(copies)
