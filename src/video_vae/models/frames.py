"""The spatial VAE on videos: frame by frame, some frames at a time, in the number format of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call

from video_vae.models.blocks import as_weights

# Pixels that the spatial VAE takes at once outside training: bounds memory. On CPUs a few frames, whose activations
# stay in the cache, take a quarter to a half less time than many.
_CPU_PIXELS = 2**15
_GPU_PIXELS = 17 * 256 * 256


def frames_at_once(device: torch.device, pixels: int) -> int:
    """Return how many frames of so many pixels the spatial VAE takes at once where no gradient is needed."""
    return max(1, (_CPU_PIXELS if device.type == "cpu" else _GPU_PIXELS) // pixels)


class SpatialVAE(nn.Module):
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


def by_frame(function: Callable[[Tensor], Tensor], x: Tensor, area: int) -> Tensor:
    """Apply a function of (N, C, H, W) to each frame of (B, C, T, H, W), some frames at a time without gradients.

    ``area`` is the number of pixels that each place of ``x`` stands for.
    """
    frames = x.transpose(1, 2).flatten(0, 1)
    out = torch.cat([function(part) for part in _parts(frames, area * x.shape[3] * x.shape[4])])
    return out.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def _parts(frames: Tensor, pixels: int) -> Iterator[Tensor]:
    yield from (frames,) if torch.is_grad_enabled() else frames.split(frames_at_once(frames.device, pixels))
