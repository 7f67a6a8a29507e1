"""The whole video VAE: the spatial VAE frame by frame, then the temporal VAE (report, first section)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin  # noqa: F401 (a saved pipeline looks here for the base of its parts)
from torch import Tensor, nn

from video_vae.models.blocks import at_least_fp32
from video_vae.models.chunks import Joiner, chunk_spans, in_chunks, join
from video_vae.models.frames import SpatialVAE, by_frame
from video_vae.models.library import Model
from video_vae.models.posterior import DiagonalGaussian
from video_vae.models.streaming import total_frames
from video_vae.models.temporal import DecoderOutput, EncoderOutput, TemporalAutoencoderKL
from video_vae.models.tiling import Tiling

FOR_OTHERS = {"down_block_types": ["load it by video_vae.models.VideoAutoencoderKL.from_pretrained: an image VAE here"]}
"""Entry of the config at which the library's image and video VAEs stop: they look for blocks of that name, and say that
such a thing "does not exist". Without it they ignore what they do not know, and start with random weights."""


class VideoAutoencoderKL(Model):
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
            Causal streams cut frames for the spatial VAE only; the states of the temporal VAE are of whole frames.
        use_slicing: clips of a batch pass the temporal VAE one by one. No part of what is saved.
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
        self.use_slicing = False
        spatial = AutoencoderKL.from_config(spatial) if isinstance(spatial, dict) else spatial
        temporal = TemporalAutoencoderKL.from_config(temporal) if isinstance(temporal, dict) else temporal
        self.spatial_vae = SpatialVAE(spatial)
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
            **FOR_OTHERS,
        )

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict[str, Any], ...]:
        """Filter a config as the library does, without the keys of other classes."""
        own = {key: value for key, value in config_dict.items() if key not in FOR_OTHERS}
        return super().extract_init_dict(own, **kwargs)

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
    def spatial_compression_ratio(self) -> int:
        """Return how many pixels a latent spans along a side (8 with the SDXL VAE)."""
        return 2 ** (len(self.spatial.config["block_out_channels"]) - 1)

    @property
    def temporal_compression_ratio(self) -> int:
        """Return how many frames a latent spans (4)."""
        return self.temporal.time_compression

    def enable_tiling(self, tile: int = 256, overlap: int = 64) -> None:
        """Cut frames into square tiles of so many pixels per side, which share ``overlap`` pixels, blended.

        Raises:
            ValueError: if the overlap is above half of the tile, or not above zero.
        """
        self.tiling = Tiling(tile, overlap)

    def disable_tiling(self) -> None:
        """Take frames whole again."""
        self.tiling = None

    def enable_slicing(self) -> None:
        """Take the clips of a batch one by one: less memory, the same result."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Take the clips of a batch together again."""
        self.use_slicing = False

    def encode(self, x: Tensor, return_dict: bool = True) -> EncoderOutput:
        """Encode video (B, 3, T, H, W) to the posterior over latents (B, 4, T', H / 8, W / 8), not normalised.

        They are those of ``encode_latents`` before it normalises. A tuple is returned where ``return_dict`` is false.
        """
        output = EncoderOutput(latent_dist=DiagonalGaussian.joined(list(self.posteriors(x))))
        return output if return_dict else output.to_tuple()

    def decode(self, z: Tensor, num_frames: int | None = None, return_dict: bool = True) -> DecoderOutput:
        """Decode latents (B, 4, T', h, w), not normalised, to video (B, 3, num_frames, 8h, 8w).

        Without ``num_frames`` there are ``usual_frames`` of them. A tuple is returned where ``return_dict`` is false.

        Raises:
            ValueError: if ``z`` has not the length that ``num_frames`` frames are encoded to.
        """
        num_frames = self.usual_frames(z.shape[2]) if num_frames is None else num_frames
        output = DecoderOutput(sample=self.decode_spatial(self._decode_temporal(z, num_frames, overlap=0)))
        return output if return_dict else output.to_tuple()

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput:
        """Encode and decode video (B, 3, T, H, W) through the posterior's mode, or through a draw."""
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self.decode(z, sample.shape[2], return_dict)

    def usual_frames(self, latent_frames: int) -> int:
        """Return how many frames so many latents are taken to hold: full chunks, then 4 (T' - 1) + 1 (10 -> 34)."""
        length = self.config["chunk_frames"]
        if length is None:
            return self.temporal.usual_frames(latent_frames)
        chunks, rest = divmod(latent_frames, self.temporal.latent_frames(length))
        return chunks * length + (self.temporal.usual_frames(rest) if rest else 0)

    def latent_frames(self, num_frames: int, overlap: int = 0) -> int:
        """Return how many latent frames a video is encoded to (34 -> 10)."""
        spans = chunk_spans(num_frames, self.config["chunk_frames"], overlap)
        return sum(self.temporal.latent_frames(len(span)) for span in spans)

    @property
    def streams(self) -> bool:
        """Tell whether long videos are encoded and decoded in parts, so that memory does not grow with them."""
        return self.config["chunk_frames"] is not None or self.temporal.is_causal

    def spatial_posterior(self, x: Tensor) -> DiagonalGaussian:
        """Encode each frame of (B, 3, T, H, W) alone; the posterior is over (B, 4, T, H / 8, W / 8), unscaled.

        Raises:
            ValueError: if ``x`` is not (B, 3, T, H, W) with H and W multiples of 8.
        """
        factor = self.spatial_compression_ratio
        if x.ndim != 5 or x.shape[1] != 3 or min(x.shape) < 1 or x.shape[3] % factor or x.shape[4] % factor:
            raise ValueError(f"video must be (B, 3, T, H, W), H and W multiples of {factor}, not {tuple(x.shape)}")
        encode = self.spatial_vae.function(decode=False)
        moments = self._tiled(lambda tile: by_frame(encode, tile, 1), x, 1, factor)
        return DiagonalGaussian(moments, self.spatial_vae.weight.dtype)

    def _tiled(self, function: Callable[[Tensor], Tensor], x: Tensor, pixels_in: int, pixels_out: int) -> Tensor:
        return function(x) if self.tiling is None else self.tiling.apply(function, x, pixels_in, pixels_out)

    def temporal_posterior(self, z: Tensor) -> DiagonalGaussian:
        """Encode scaled spatial latents (B, 4, T, h, w) by the temporal VAE; the posterior is not normalised."""

        def moments(tile: Tensor) -> Tensor:
            """Encode a tile to mean and log variance, side by side."""
            posterior = self.temporal.encode(tile).latent_dist
            return torch.cat((posterior.mean, posterior.logvar), dim=1)

        side = self.spatial_compression_ratio
        parts = [self._tiled(moments, part, side, side) for part in self._sliced(z)]
        return DiagonalGaussian(torch.cat(parts), parts[0].dtype)

    def _sliced(self, z: Tensor) -> Sequence[Tensor]:
        return z.split(1) if self.use_slicing else (z,)

    def decode_chunk(self, z: Tensor, num_frames: int) -> Tensor:
        """Decode the latents (B, 4, T', h, w) of one chunk, not normalised, to scaled spatial latents."""

        def decode(tile: Tensor) -> Tensor:
            """Decode a tile."""
            return self.temporal.decode(tile, num_frames).sample

        side = self.spatial_compression_ratio
        return torch.cat([self._tiled(decode, part, side, side) for part in self._sliced(z)])

    def encode_spatial(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the scaled spatial latents of (B, 3, T, H, W): the mode, or drawn where a generator is given."""
        posterior = self.spatial_posterior(x)
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return z * self.config["scaling_factor"]

    def decode_spatial(self, z: Tensor) -> Tensor:
        """Decode scaled spatial latents (B, 4, T, h, w) frame by frame to (B, 3, T, 8h, 8w)."""
        side = self.spatial_compression_ratio
        decode = self.spatial_vae.function(decode=True)
        z = z / self.config["scaling_factor"]
        return self._tiled(lambda tile: by_frame(decode, tile, side**2), z, side, 1)

    def encode_latents(self, x: Tensor, generator: torch.Generator | None = None, overlap: int = 0) -> Tensor:
        """Encode video (B, 3, T, H, W) to normalised latents (B, 4, T', H / 8, W / 8).

        Without a generator both posteriors give their mode. With ``chunk_frames``, each chunk is encoded alone
        (17 frames -> 5, 34 -> 10, 18 -> 6); with ``overlap``, it repeats that many frames of the chunk before.
        """
        posteriors = self.posteriors(x, generator, overlap)
        latents = [part.mode() if generator is None else part.sample(generator) for part in posteriors]
        return self.normalise(torch.cat(latents, dim=2))

    def posteriors(
        self, x: Tensor, generator: torch.Generator | None = None, overlap: int = 0
    ) -> Iterator[DiagonalGaussian]:
        """Yield the posterior, not normalised, of each chunk of video (B, 3, T, H, W)."""
        for span in chunk_spans(x.shape[2], self.config["chunk_frames"], overlap):
            chunk = x[:, :, span.start : span.stop]
            yield self.temporal_posterior(self.encode_spatial(chunk, generator))

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
        return self._decode_temporal(self.denormalise(z), num_frames, overlap)

    def _decode_temporal(self, z: Tensor, num_frames: int, overlap: int) -> Tensor:
        spans = chunk_spans(num_frames, self.config["chunk_frames"], overlap)
        latent_lengths = [self.temporal.latent_frames(len(span)) for span in spans]
        if z.shape[2] != sum(latent_lengths):
            raise ValueError(
                f"{z.shape[2]} latent frames do not hold {num_frames} frames; expected {sum(latent_lengths)}"
            )
        parts = zip(z.split(latent_lengths, dim=2), spans, strict=True)
        return join((self.decode_chunk(part, len(span)) for part, span in parts), spans, overlap)

    def encode_stream(
        self, chunks: Iterable[Tensor], num_frames: int | None = None, overlap: int = 0
    ) -> Iterator[Tensor]:
        """Encode a stream of pixel chunks (B, 3, t, H, W), any t, to normalised latents; memory does not grow with it.

        Together the latents are those that ``encode_latents`` gives of the whole video.

        Raises:
            ValueError: if the net takes clips whole (``chunk_frames=None``) and is not strictly causal, or
                ``num_frames`` is wrong, or missing where such a net streams.
        """
        if self.config["chunk_frames"] is None:
            num_frames = total_frames(chunks, num_frames)
        spatial = (self.encode_spatial(chunk) for chunk in chunks)
        for posterior in self.posterior_stream(spatial, num_frames, overlap):
            yield self.normalise(posterior.mode())

    def posterior_stream(
        self, latents: Iterable[Tensor], num_frames: int | None = None, overlap: int = 0
    ) -> Iterator[DiagonalGaussian]:
        """Encode a stream of scaled spatial latents (B, 4, t, h, w) by the temporal VAE, chunk by chunk or causally."""
        length = self.config["chunk_frames"]
        if length is None:
            yield from self.temporal.encode_stream(latents, num_frames)
            return
        for chunk, _ in in_chunks(latents, length, overlap, num_frames):
            yield self.temporal_posterior(chunk)

    def decode_stream(
        self, latents: Iterable[Tensor], num_frames: int | None = None, overlap: int = 0
    ) -> Iterator[Tensor]:
        """Decode a stream of normalised latents (B, 4, t, h, w), any t, to pixel chunks; memory does not grow with it.

        Together they are what ``decode_latents`` gives of the whole; without ``num_frames``, of ``usual_frames``.

        Raises:
            ValueError: if the net takes clips whole (``chunk_frames=None``) and is not strictly causal, or
                ``num_frames`` is wrong.
        """
        for frames in self.decode_temporal_stream(map(self.denormalise, latents), num_frames, overlap):
            yield self.decode_spatial(frames)

    def decode_temporal_stream(
        self, latents: Iterable[Tensor], num_frames: int | None = None, overlap: int = 0
    ) -> Iterator[Tensor]:
        """Decode a stream of latents (B, 4, t, h, w), not normalised, to scaled spatial latents."""
        length = self.config["chunk_frames"]
        if length is None:
            yield from self.temporal.decode_stream(latents, num_frames)
            return
        spans = None if num_frames is None else chunk_spans(num_frames, length, overlap)
        total = None if num_frames is None else self.latent_frames(num_frames, overlap)
        joiner = Joiner(overlap)
        for number, (z, last) in enumerate(in_chunks(latents, self.temporal.latent_frames(length), total=total)):
            frames = self.usual_frames(z.shape[2]) if spans is None else len(spans[number])
            yield joiner.join(self.decode_chunk(z, frames), last)

    def reconstruct(self, x: Tensor, generator: torch.Generator | None = None, overlap: int = 0) -> Tensor:
        """Encode and decode (B, 3, T, H, W) through the whole pipeline."""
        return self.decode_latents(self.encode_latents(x, generator, overlap), x.shape[2], overlap)

    def reconstruct_spatial(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode and decode (B, 3, T, H, W) through the spatial VAE alone."""
        return self.decode_spatial(self.encode_spatial(x, generator))


def _public(config: Any) -> dict[str, Any]:
    return {key: value for key, value in dict(config).items() if not key.startswith("_")}
