"""The whole video VAE: the spatial VAE frame by frame, then the temporal VAE (report, first section)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.func import functional_call

from video_vae.models.blocks import as_weights, at_least_fp32
from video_vae.models.chunks import chunk_spans, join
from video_vae.models.posterior import DiagonalGaussian
from video_vae.models.streaming import total_frames
from video_vae.models.temporal import TemporalAutoencoderKL
from video_vae.models.tiling import Tiling

# Pixels that the spatial VAE takes at once outside training: bounds memory. On CPUs a few frames, whose activations
# stay in the cache, take a quarter to a half less time than many.
_CPU_PIXELS = 2**15
_GPU_PIXELS = 17 * 256 * 256


def frames_at_once(device: torch.device, pixels: int) -> int:
    """Return how many frames of so many pixels the spatial VAE takes at once where no gradient is needed."""
    return max(1, (_CPU_PIXELS if device.type == "cpu" else _GPU_PIXELS) // pixels)


class _Spatial(nn.Module):
    """Hold the spatial VAE under the published name, ``spatial_vae.module``."""

    def __init__(self, module: AutoencoderKL) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, decode: bool) -> Tensor:
        """Encode frames (N, 3, H, W) to moments (N, 8, h, w), or decode latents (N, 4, h, w) to frames."""
        if decode:
            return self.module.decode(x).sample
        moments = self.module.encoder(x)
        return moments if self.module.quant_conv is None else self.module.quant_conv(moments)

    @property
    def weight(self) -> Tensor:
        """Return one of the weights, for their dtype."""
        return self.module.decoder.conv_out.weight

    def function(self, decode: bool) -> Callable[[Tensor], Tensor]:
        """Return a function of (N, C, H, W) that encodes or decodes.

        Activations of SDXL's VAE pass the range of fp16: a net in fp16 whose config says ``force_upcast`` computes in
        fp32, from weights that are widened for as long as the function is held.
        """
        if self.weight.dtype != torch.float16 or not self.module.config["force_upcast"]:
            return lambda x: self(as_weights(x, self.weight), decode)
        wide = {name: value.float() for name, value in self.state_dict().items()}
        return lambda x: functional_call(self, wide, (x.float(), decode)).to(self.weight.dtype)


class VideoAutoencoderKL(ModelMixin, ConfigMixin):
    """Compress video 4x8x8 into 4 channels.

    Pixels are (B, 3, T, H, W) in [-1, 1], H and W multiples of 8; latents are (B, 4, ceil(T / 4), H / 8, W / 8).
    State-dict names are those of the published Open-Sora VAE v1.2.

    Args:
        spatial: the spatial VAE, or its diffusers config.
        temporal: the temporal VAE, or its config.
        scaling_factor: factor on the spatial latents.
        shift: mean of each latent channel, taken off by ``encode_latents``.
        scale: standard deviation of each latent channel, divided by in ``encode_latents``.
        chunk_frames: clips are encoded in independent chunks of this many frames; None takes them whole.

    Attributes:
        tiling: how large frames are cut into tiles at inference; None takes them whole. No part of what is saved.
            Streams cut frames for the spatial VAE only: the states of the temporal VAE are those of whole frames.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        spatial: AutoencoderKL | dict[str, Any],
        temporal: TemporalAutoencoderKL | dict[str, Any],
        scaling_factor: float = 0.18215,
        shift: tuple[float, ...] = (-0.10, 0.34, 0.27, 0.98),
        scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06),
        chunk_frames: int | None = 17,
    ) -> None:
        super().__init__()
        self.tiling: Tiling | None = None
        spatial = AutoencoderKL.from_config(spatial) if isinstance(spatial, dict) else spatial
        temporal = TemporalAutoencoderKL.from_config(temporal) if isinstance(temporal, dict) else temporal
        self.spatial_vae = _Spatial(spatial)
        self.temporal_vae = temporal
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1, 1))
        self.register_to_config(
            spatial=_public(spatial.config),
            temporal=_public(temporal.config),
            scaling_factor=scaling_factor,
            shift=list(shift),
            scale=list(scale),
            chunk_frames=chunk_frames,
        )

    def __getattr__(self, name: str) -> Any:
        """Look names up among the modules and buffers only: ``shift`` and ``scale`` are buffers before settings."""
        return nn.Module.__getattr__(self, name)

    @property
    def spatial(self) -> AutoencoderKL:
        """Return the spatial VAE."""
        return self.spatial_vae.module

    @property
    def temporal(self) -> TemporalAutoencoderKL:
        """Return the temporal VAE."""
        return self.temporal_vae

    @property
    def spatial_compression(self) -> int:
        """Return how many pixels a latent spans along a side (8 with the SDXL VAE)."""
        return 2 ** (len(self.spatial.config["block_out_channels"]) - 1)

    def spatial_posterior(self, x: Tensor) -> DiagonalGaussian:
        """Encode each frame of (B, 3, T, H, W) alone; the posterior is over (B, 4, T, H / 8, W / 8), unscaled.

        Raises:
            ValueError: if ``x`` is not (B, 3, T, H, W) with H and W multiples of 8.
        """
        factor = self.spatial_compression
        if x.ndim != 5 or x.shape[1] != 3 or min(x.shape) < 1 or x.shape[3] % factor or x.shape[4] % factor:
            raise ValueError(f"video must be (B, 3, T, H, W), H and W multiples of {factor}, not {tuple(x.shape)}")
        encode = self.spatial_vae.function(decode=False)
        moments = self._tiled(lambda tile: _by_frame(encode, tile, 1), x, 1, factor)
        return DiagonalGaussian(moments, self.spatial_vae.weight.dtype)

    def _tiled(self, function: Callable[[Tensor], Tensor], x: Tensor, pixels_in: int, pixels_out: int) -> Tensor:
        return function(x) if self.tiling is None else self.tiling.apply(function, x, pixels_in, pixels_out)

    def temporal_posterior(self, z: Tensor) -> DiagonalGaussian:
        """Encode scaled spatial latents (B, 4, T, h, w) by the temporal VAE; the posterior is not normalised."""
        if self.tiling is None:
            return self.temporal.encode(z).latent_dist

        def moments(tile: Tensor) -> Tensor:
            """Encode a tile to mean and log variance, side by side."""
            posterior = self.temporal.encode(tile).latent_dist
            return torch.cat((posterior.mean, posterior.logvar), dim=1)

        side = self.spatial_compression
        tiled = self._tiled(moments, z, side, side)
        return DiagonalGaussian(tiled, tiled.dtype)

    def decode_chunk(self, z: Tensor, num_frames: int) -> Tensor:
        """Decode the latents (B, 4, T', h, w) of one chunk, not normalised, to scaled spatial latents."""
        side = self.spatial_compression
        return self._tiled(lambda tile: self.temporal.decode(tile, num_frames).sample, z, side, side)

    def encode_spatial(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the scaled spatial latents of (B, 3, T, H, W): the mode, or drawn where a generator is given."""
        posterior = self.spatial_posterior(x)
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return z * self.config["scaling_factor"]

    def decode_spatial(self, z: Tensor) -> Tensor:
        """Decode scaled spatial latents (B, 4, T, h, w) frame by frame to (B, 3, T, 8h, 8w)."""
        side = self.spatial_compression
        decode = self.spatial_vae.function(decode=True)
        z = z / self.config["scaling_factor"]
        return self._tiled(lambda tile: _by_frame(decode, tile, side**2), z, side, 1)

    def encode_latents(self, x: Tensor, generator: torch.Generator | None = None, overlap: int = 0) -> Tensor:
        """Encode video (B, 3, T, H, W) to normalised latents (B, 4, T', H / 8, W / 8).

        Without a generator both posteriors give their mode. With ``chunk_frames``, each chunk is encoded alone
        (17 frames -> 5, 34 -> 10, 18 -> 6); with ``overlap``, it repeats that many frames of the chunk before.
        """
        latents = []
        for span in chunk_spans(x.shape[2], self.config["chunk_frames"], overlap):
            chunk = x[:, :, span.start : span.stop]
            posterior = self.temporal_posterior(self.encode_spatial(chunk, generator))
            latents.append(posterior.mode() if generator is None else posterior.sample(generator))
        return self.normalise(torch.cat(latents, dim=2))

    def normalise(self, z: Tensor) -> Tensor:
        """Turn latents (B, 4, T', h, w) of the temporal VAE into those that other models see: by channel, in fp32."""
        return ((at_least_fp32(z) - at_least_fp32(self.shift)) / at_least_fp32(self.scale)).to(z.dtype)

    def denormalise(self, z: Tensor) -> Tensor:
        """Undo ``normalise``."""
        return (at_least_fp32(z) * at_least_fp32(self.scale) + at_least_fp32(self.shift)).to(z.dtype)

    def decode_latents(self, z: Tensor, num_frames: int, overlap: int = 0) -> Tensor:
        """Decode normalised latents (B, 4, T', h, w) to the ``num_frames`` frames that they were made from.

        Where chunks overlap, each fades into the next one.

        Raises:
            ValueError: if ``z`` has not the length that ``num_frames`` frames are encoded to.
        """
        return self.decode_spatial(self.decode_temporal(z, num_frames, overlap))

    def decode_temporal(self, z: Tensor, num_frames: int, overlap: int = 0) -> Tensor:
        """Decode normalised latents (B, 4, T', h, w) to scaled spatial latents (B, 4, num_frames, h, w)."""
        z = self.denormalise(z)
        spans = chunk_spans(num_frames, self.config["chunk_frames"], overlap)
        latent_lengths = [self.temporal.latent_frames(len(span)) for span in spans]
        if z.shape[2] != sum(latent_lengths):
            raise ValueError(
                f"{z.shape[2]} latent frames do not hold {num_frames} frames; expected {sum(latent_lengths)}"
            )
        parts = zip(z.split(latent_lengths, dim=2), spans, strict=True)
        return join((self.decode_chunk(part, len(span)) for part, span in parts), spans, overlap)

    def encode_stream(self, chunks: Iterable[Tensor], num_frames: int | None = None) -> Iterator[Tensor]:
        """Encode a stream of pixel chunks (B, 3, t, H, W) to normalised latents, in memory that does not grow.

        Together the latents equal those of the whole video taken at once (``chunk_frames=None``).

        Raises:
            ValueError: if the net is not strictly causal, or ``num_frames`` is missing or wrong.
        """
        total = total_frames(chunks, num_frames)
        spatial = (self.encode_spatial(chunk) for chunk in chunks)
        for posterior in self.temporal.encode_stream(spatial, total):
            yield self.normalise(posterior.mode())

    def decode_stream(self, latents: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
        """Decode a stream of normalised latents (B, 4, t, h, w) to pixel chunks, in memory that does not grow.

        Raises:
            ValueError: if the net is not strictly causal.
        """
        for frames in self.temporal.decode_stream(map(self.denormalise, latents), num_frames):
            yield self.decode_spatial(frames)

    def reconstruct(self, x: Tensor, generator: torch.Generator | None = None, overlap: int = 0) -> Tensor:
        """Encode and decode (B, 3, T, H, W) through the whole pipeline."""
        return self.decode_latents(self.encode_latents(x, generator, overlap), x.shape[2], overlap)

    def reconstruct_spatial(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode and decode (B, 3, T, H, W) through the spatial VAE alone."""
        return self.decode_spatial(self.encode_spatial(x, generator))


def _public(config: Any) -> dict[str, Any]:
    return {key: value for key, value in dict(config).items() if not key.startswith("_")}


def _by_frame(function: Callable[[Tensor], Tensor], x: Tensor, area: int) -> Tensor:
    """Apply a function of (N, C, H, W) to each frame of (B, C, T, H, W), some frames at a time without gradients.

    ``area`` is the number of pixels that each place of ``x`` stands for.
    """
    frames = x.transpose(1, 2).flatten(0, 1)
    out = torch.cat([function(part) for part in _parts(frames, area * x.shape[3] * x.shape[4])])
    return out.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def _parts(frames: Tensor, pixels: int) -> Iterator[Tensor]:
    yield from (frames,) if torch.is_grad_enabled() else frames.split(frames_at_once(frames.device, pixels))
