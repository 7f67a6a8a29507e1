"""Spatial VAEs under the names that others gave their tensors: those of latent diffusion and of older diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from video_vae.errors import UserError

SDXL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
    "scaling_factor": 0.13025,
}
"""Architecture of SDXL's VAE, that of Stable Diffusion 1 and 2 too (its own scaling factor is not used here)."""
_LDM = "encoder.down.0."
"""What tells the names of latent diffusion."""
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_ATTENTION = re.compile(rf"(mid_block\.attentions\.\d+)\.({'|'.join(_OLD)})\.")


def as_diffusers(tensors: Mapping[str, Tensor], config: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Return the tensors of a spatial VAE under today's names of diffusers, whichever of the three they had.

    Args:
        tensors: of a file, of latent diffusion a whole checkpoint with the denoiser beside.
        config: of the AutoencoderKL that they are of.
        where: name of the file, for errors.

    Raises:
        UserError: if there are several spatial VAEs in it.
    """
    starts = {name.partition(_LDM)[0] for name in tensors if _LDM in name}
    if len(starts) > 1:
        raise UserError(f"{where}: several spatial VAEs are in it: {', '.join(sorted(starts))}; get a file with one")
    for start in starts:
        inner = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        tensors = convert_ldm_vae_checkpoint(inner, config)
    return {_ATTENTION.sub(lambda found: f"{found[1]}.{_OLD[found[2]]}.", name): t for name, t in tensors.items()}
