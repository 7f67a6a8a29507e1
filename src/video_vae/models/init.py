"""Start the temporal VAE as linear interpolation between every fourth latent.

A short training then improves on interpolation, instead of learning the identity first.
The encoder keeps the last latent of each group of four, the decoder interpolates linearly between the kept ones: all
residual branches start at zero, and the trunk carries each latent channel ``a`` in quadruples of channels
``(+a, -a, +c, -c)``. The pair makes the activation exact (``silu(x) - silu(-x) = x``), and the constants ``c``
dominate the statistics of the last norm, so that a clip's own contrast passes through it.

Adam moves every weight by about the learning rate, and so an output by that rate times its inputs: constants that
convolutions see would drown what a short training learns. They enter the trunk at the last change of the frame rate,
norms pass them on with a gain of 0, and residual branches see latents of unit variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
                _copy_channels(module.conv3, latents)
    _encoder(net, latents)
    _decoder(net, latents)
    for conv in (net.quant_conv, net.post_quant_conv):
        _copy_channels(conv, latents)


def _encoder(net: TemporalAutoencoderKL, latents: int) -> None:
    _spread(net.encoder.conv_in, latents)
    layers = list(net.encoder.layers())
    downs = [layer for layer in layers if isinstance(layer, TimeDownsample)]
    for level, down in enumerate(downs):
        _halve(down, latents, frames=2**level)
    _set_constants(_bias(downs[-1]))
    _pass_constants_by(layers, downs[-1])
    _gather(net.encoder.norm1, net.encoder.conv2, latents)
    _bias(net.encoder.conv2)[latents:] = LOGVAR


def _decoder(net: TemporalAutoencoderKL, latents: int) -> None:
    _spread(net.decoder.conv1, latents, odd=-2)
    layers = list(net.decoder.layers())
    ups = [layer for layer in layers if isinstance(layer, TimeUpsample)]
    for up in ups:
        _interpolate(up, latents)
    # A channel's two frames lie side by side.
    _set_constants(_bias(ups[-1]).view(-1, 2))
    _pass_constants_by(layers, ups[-1])
    _gather(net.decoder.norm1, net.decoder.conv_out, latents)


def _pass_constants_by(layers: Sequence[nn.Module], source: nn.Module) -> None:
    """Let the residual branches that come after the layer with the constants see latents alone."""
    for layer in layers[layers.index(source) + 1 :]:
        if isinstance(layer, ResBlock):
            _past_constants(layer.norm1)


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


def _copy_channels(conv: CausalConv3d, latents: int) -> None:
    """Copy channels; those that the input lacks are further copies of the first two of the latents."""
    _clear(conv)
    now = _now(conv)
    period = min(8 * latents, now.shape[1] // (4 * latents) * 4 * latents or now.shape[1])
    out = torch.arange(now.shape[0])
    now[out, torch.where(out < now.shape[1], out, out % period)] = 1.0


def _spread(conv: CausalConv3d, latents: int, odd: int = -1) -> None:
    """Set the quadruples; odd copies take the frame at their own place in the kernel, -1 being the newest."""
    _clear(conv)
    middle = conv.conv.kernel_size[1] // 2
    for quad in range(conv.conv.out_channels // 4):
        frame = odd if quad // latents % 2 else -1
        for sign, channel in ((1.0, 4 * quad), (-1.0, 4 * quad + 1)):
            conv.conv.weight[channel, quad % latents, frame, middle, middle] = sign


def _set_constants(bias: Tensor) -> None:
    bias[2::4] = CONSTANT
    bias[3::4] = -CONSTANT


def _past_constants(norm: nn.GroupNorm) -> None:
    """Undo the scale that the constants give to latents of unit variance, and pass no constants on."""
    norm.weight.fill_(math.sqrt((1.0 + CONSTANT**2) / 2.0))
    norm.weight.view(-1, 4)[:, 2:] = 0.0
    norm.bias.zero_()


def _odd_copies(conv: CausalConv3d, latents: int) -> Tensor:
    """Return the input channels that hold the second, fourth ... copy of the latents."""
    channels = torch.arange(conv.conv.in_channels)
    return channels[(channels % 4 < 2) & (channels // (4 * latents) % 2 == 1)]


def _halve(down: CausalConv3d, latents: int, frames: int) -> None:
    """Join two groups of so many frames: even copies keep the newest frame, odd ones the mean of the others."""
    _copy_channels(down, latents)
    middle = down.conv.kernel_size[1] // 2
    odd, others = _odd_copies(down, latents), 2 * frames - 1
    weight = down.conv.weight[:, :, :, middle, middle]
    weight[odd] = 0.0
    weight[odd, odd - 4 * latents, -2] = 1.0 / others
    weight[odd, odd, -2:] = (frames - 1.0) / others


def _interpolate(up: TimeUpsample, latents: int) -> None:
    _clear(up)
    middle = up.conv.kernel_size[1] // 2
    channels = torch.arange(up.conv.in_channels)
    channels = channels[channels % 4 < 2]
    up.conv.weight[2 * channels, channels, -2:, middle, middle] = 0.5
    up.conv.weight[2 * channels + 1, channels, -1, middle, middle] = 1.0
    odd = _odd_copies(up, latents)
    up.conv.weight[2 * odd, odd, :, middle, middle] = 0.0
    up.conv.weight[2 * odd, odd, -1, middle, middle] = 1.0


def _gather(norm: nn.GroupNorm, conv: CausalConv3d, latents: int) -> None:
    """Undo the norm's scale and take the differences of the pairs."""
    _past_constants(norm)
    _clear(conv)
    now = _now(conv)
    quads = now.shape[1] // 4
    for channel in range(latents):
        copies = torch.arange(channel, quads, 2 * latents)
        now[channel, 4 * copies] = 1.0 / len(copies)
        now[channel, 4 * copies + 1] = -1.0 / len(copies)
