"""The temporal VAE: MAGVIT-v2's causal 3D autoencoder without codebook, 4x in time (report, first section)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from video_vae.models.blocks import (
    PAD_MODES,
    CausalConv3d,
    Norm,
    Options,
    ResBlock,
    StreamState,
    TimeDownsample,
    TimeUpsample,
    as_weights,
    pad_start,
)
from video_vae.models.library import Model
from video_vae.models.posterior import DiagonalGaussian
from video_vae.models.streaming import in_groups, total_frames


@dataclass
class EncoderOutput(BaseOutput):
    """What an encoder gives."""

    latent_dist: DiagonalGaussian


@dataclass
class DecoderOutput(BaseOutput):
    """What a decoder gives."""

    sample: Tensor


class _Stack(nn.Module):
    """Run layers in order, recomputing each in the backward pass where gradient checkpointing is on."""

    _gradient_checkpointing_func: Callable[..., Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False

    def run(self, layers: Iterable[nn.Module], x: Tensor, state: StreamState | None) -> Tensor:
        """Map (B, C, T, H, W) through the layers."""
        for layer in layers:
            if self.gradient_checkpointing and torch.is_grad_enabled() and state is None:
                x = self._gradient_checkpointing_func(layer, x)
            else:
                x = layer(x, state)
        return x


def _res_blocks(in_channels: int, out_channels: int, count: int, options: Options) -> nn.ModuleList:
    widths = [in_channels] + [out_channels] * count
    return nn.ModuleList(ResBlock(a, b, options) for a, b in itertools.pairwise(widths))


class Encoder(_Stack):
    """Map spatial latents to posterior moments."""

    def __init__(
        self,
        channels: int,
        moments: int,
        widths: list[int],
        blocks: int,
        down: tuple[bool, ...],
        options: Options,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels, widths[0], bias=False, pad_mode=options.pad_mode)
        inputs = [widths[0], *widths[:-1]]
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(a, b, blocks, options) for a, b in zip(inputs, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            TimeDownsample(width, options.pad_mode) if halve else nn.Identity()
            for width, halve in zip(widths, down, strict=False)
        )
        self.res_blocks = _res_blocks(widths[-1], widths[-1], blocks, options)
        self.norm1 = Norm(options.groups, widths[-1], options.scope)
        self.conv2 = CausalConv3d(widths[-1], moments, kernel=1)

    def layers(self) -> Iterable[nn.Module]:
        """Yield the layers between ``conv_in`` and ``norm1`` in order."""
        for level, blocks in enumerate(self.block_res_blocks):
            yield from blocks  # type: ignore[misc]
            if level < len(self.conv_blocks) and isinstance(self.conv_blocks[level], TimeDownsample):
                yield self.conv_blocks[level]
        yield from self.res_blocks

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Map (B, C, T, H, W), T a multiple of the compression, to moments (B, 2Z, T', H, W)."""
        x = self.run(self.layers(), self.conv_in(x, state), state)
        return self.conv2(F.silu(self.norm1(x)))


class Decoder(_Stack):
    """Map temporal latents back to spatial latents; the mirror image of the encoder."""

    def __init__(
        self, channels: int, latents: int, widths: list[int], blocks: int, up: tuple[bool, ...], options: Options
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(latents, widths[-1], pad_mode=options.pad_mode)
        self.res_blocks = _res_blocks(widths[-1], widths[-1], blocks, options)
        inputs = [*widths[1:], widths[-1]]
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(a, b, blocks, options) for a, b in zip(inputs, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            TimeUpsample(width, options.pad_mode) if double else nn.Identity()
            for width, double in zip(widths[1:], up, strict=True)
        )
        self.norm1 = Norm(options.groups, widths[0], options.scope)
        self.conv_out = CausalConv3d(widths[0], channels, pad_mode=options.pad_mode)

    def layers(self) -> Iterable[nn.Module]:
        """Yield the layers between ``conv1`` and ``norm1`` in order."""
        yield from self.res_blocks
        for level in reversed(range(len(self.block_res_blocks))):
            yield from self.block_res_blocks[level]  # type: ignore[misc]
            if level > 0 and isinstance(self.conv_blocks[level - 1], TimeUpsample):
                yield self.conv_blocks[level - 1]

    def forward(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        """Map latents (B, Z, T', H, W) to (B, C, T, H, W)."""
        x = self.run(self.layers(), self.conv1(z, state), state)
        return self.conv_out(F.silu(self.norm1(x)), state)


class TemporalAutoencoderKL(Model):
    """Compress spatial latents four times in time into a diagonal Gaussian of 4 channels.

    Names and shapes of the state dict are those of the published Open-Sora VAE v1.2 (``temporal_vae.*``).
    ``norm_scope="clip"`` is the published net; ``"frame"`` makes it strictly causal, so that it can stream.
    ``pad_mode="constant"`` is the published net: time before the first frame is zeros, in every convolution and where
    frames fill the first group of four. ``"replicate"`` takes the first frame there.
    Inputs of any dtype are taken in that of the weights (fp32, bf16 or fp16); norms and posteriors compute in fp32.

    Raises:
        ValueError: if ``pad_mode`` is none of these.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        latent_channels: int = 4,
        base_channels: int = 128,
        layers_per_block: int = 4,
        channel_multipliers: tuple[int, ...] = (1, 2, 2, 4),
        temporal_downsample: tuple[bool, ...] = (False, True, True),
        norm_num_groups: int = 32,
        norm_scope: str = "clip",
        pad_mode: str = "constant",
    ) -> None:
        super().__init__()
        if pad_mode not in PAD_MODES:
            raise ValueError(f"pad_mode must be one of {', '.join(PAD_MODES)}, not {pad_mode}")
        widths = [base_channels * factor for factor in channel_multipliers]
        options = Options(norm_num_groups, norm_scope, pad_mode)
        shape: dict[str, Any] = {"widths": widths, "blocks": layers_per_block, "options": options}
        self.time_compression = 2 ** sum(temporal_downsample)
        self.encoder = Encoder(in_channels, 2 * latent_channels, down=tuple(temporal_downsample), **shape)
        self.quant_conv = CausalConv3d(2 * latent_channels, 2 * latent_channels, kernel=1)
        self.post_quant_conv = CausalConv3d(latent_channels, latent_channels, kernel=1)
        self.decoder = Decoder(in_channels, latent_channels, up=tuple(temporal_downsample), **shape)

    @property
    def is_causal(self) -> bool:
        """Tell whether no output frame depends on a later input frame, so that the net can stream."""
        return bool(self.config["norm_scope"] == "frame")

    def padding(self, num_frames: int) -> int:
        """Return how many frames (``pad_mode``) go in front so that the frames fill whole groups."""
        return -num_frames % self.time_compression

    def latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames a clip has (17 frames -> 5)."""
        return -(-num_frames // self.time_compression)

    def usual_frames(self, latent_frames: int) -> int:
        """Return how many frames so many latents are taken to hold where nobody says (5 latents -> 17 frames)."""
        return self.time_compression * (latent_frames - 1) + 1

    def encode(self, x: Tensor) -> EncoderOutput:
        """Encode spatial latents (B, C, T, H, W), any T >= 1, to a posterior over (B, Z, ceil(T / 4), H, W).

        Raises:
            ValueError: if ``x`` is not (B, in_channels, T, H, W).
        """
        _check(x, self.config["in_channels"], "spatial latents")
        x = pad_start(x, self.padding(x.shape[2]), self.config["pad_mode"])
        return EncoderOutput(self._posterior(x))

    def _posterior(self, x: Tensor, state: StreamState | None = None) -> DiagonalGaussian:
        weight = self.quant_conv.conv.weight
        return DiagonalGaussian(self.quant_conv(self.encoder(as_weights(x, weight), state)), weight.dtype)

    def _decoded(self, z: Tensor, state: StreamState | None = None) -> Tensor:
        return self.decoder(self.post_quant_conv(as_weights(z, self.post_quant_conv.conv.weight)), state)

    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode latents (B, Z, T', H, W) to the ``num_frames`` frames that were encoded, (B, C, num_frames, H, W).

        Without ``num_frames`` there are 4 (T' - 1) + 1 of them.

        Raises:
            ValueError: if ``z`` has not the shape that ``num_frames`` frames are encoded to.
        """
        _check(z, self.config["latent_channels"], "temporal latents")
        num_frames = self.usual_frames(z.shape[2]) if num_frames is None else num_frames
        if z.shape[2] != self.latent_frames(num_frames):
            raise ValueError(
                f"{z.shape[2]} latent frames do not hold {num_frames} frames; expected {self.latent_frames(num_frames)}"
            )
        return DecoderOutput(self._decoded(z)[:, :, self.padding(num_frames) :])

    def encode_stream(self, chunks: Iterable[Tensor], num_frames: int | None = None) -> Iterator[DiagonalGaussian]:
        """Encode chunks (B, C, t, H, W) of a stream, any t; together equal to ``encode`` of the whole.

        Args:
            chunks: consecutive frames.
            num_frames: frames of the whole stream; may be left out where ``chunks`` is a list.

        Raises:
            ValueError: if the net is not strictly causal (``norm_scope="frame"``) or the number of frames is wrong.
        """
        check_causal(self)
        state: StreamState = {}
        padding = self.padding(total_frames(chunks, num_frames))
        for group in in_groups(chunks, padding, self.time_compression, self.config["pad_mode"]):
            yield self._posterior(group, state)

    def decode_stream(self, latents: Iterable[Tensor], num_frames: int | None = None) -> Iterator[Tensor]:
        """Decode chunks (B, Z, t, H, W) of latents; together equal to ``decode`` of the whole.

        Without ``num_frames`` there are 4 (T' - 1) + 1 of them.

        Raises:
            ValueError: if the net is not strictly causal (``norm_scope="frame"``) or the number of frames is wrong.
        """
        check_causal(self)
        state: StreamState = {}
        drop = self.padding(1 if num_frames is None else num_frames)
        seen, total = 0, None if num_frames is None else self.latent_frames(num_frames)
        for chunk in latents:
            yield self._decoded(chunk, state)[:, :, drop:]
            drop, seen = 0, seen + chunk.shape[2]
        if total not in (None, seen):
            raise ValueError(f"num_frames is wrong: the stream has {seen} latents, {num_frames} frames have {total}")

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, DiagonalGaussian]:
        """Encode and decode (B, C, T, H, W) through a drawn latent; return the reconstruction and the posterior."""
        posterior = self.encode(x).latent_dist
        return self.decode(posterior.sample(generator), x.shape[2]).sample, posterior


def _check(x: Tensor, channels: int, what: str) -> None:
    if x.ndim != 5 or x.shape[1] != channels or min(x.shape) < 1:
        raise ValueError(f"{what} must be (B, {channels}, T, H, W) with T >= 1, not {tuple(x.shape)}")


def check_causal(net: TemporalAutoencoderKL) -> None:
    """Raise a ValueError unless the net streams exactly."""
    if net.config["norm_scope"] != "frame":
        raise ValueError(
            'streaming needs a net with norm_scope="frame"; this one pools its norms over the clip, so let '
            "VideoAutoencoderKL work in chunks: register_to_config(chunk_frames=17)"
        )
