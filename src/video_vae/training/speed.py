"""Options that make steps faster and leave what is computed as it is, up to the order of sums."""

from __future__ import annotations

import torch

from video_vae.config import Stage
from video_vae.distributed.device import set_tf32
from video_vae.models.video import VideoAutoencoderKL


def autocast(stage: Stage, device: torch.device) -> torch.autocast:
    """Return the context that gives nets a stage's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=stage.precision == "bf16")


def apply_options(vae: VideoAutoencoderKL, stage: Stage, *, sizes: int = 1) -> None:
    """Set up precision, layout and compilation of the nets as a stage asks for.

    Names of weights and what is saved stay the same. Where lengths are drawn, or one of several sizes, the nets are
    compiled for any.
    """
    set_tf32(stage.precision != "fp32")
    if stage.channels_last:
        vae.temporal.to(memory_format=torch.channels_last_3d)
        vae.spatial.to(memory_format=torch.channels_last)
    if stage.compile:
        is_varied = stage.frames[0] != stage.frames[1] or sizes > 1
        for net in (vae.temporal, vae.spatial):
            net.encoder.compile(dynamic=is_varied or None)
            net.decoder.compile(dynamic=is_varied or None)
