"""Options that make steps faster and leave what is computed as it is, up to the order of sums."""

from __future__ import annotations

import torch

from video_vae.config import Stage
from video_vae.distributed.device import set_tf32
from video_vae.models.video import VideoAutoencoderKL


def apply_options(vae: VideoAutoencoderKL, stage: Stage) -> None:
    """Set up precision, layout and compilation of the nets as a stage asks for.

    Names of weights and what is saved stay the same. Where lengths are drawn, the nets are compiled for any length.
    """
    set_tf32(stage.precision != "fp32")
    if stage.channels_last:
        vae.temporal.to(memory_format=torch.channels_last_3d)
        vae.spatial.to(memory_format=torch.channels_last)
    if stage.compile:
        any_length = stage.frames[0] != stage.frames[1]
        for net in (vae.temporal, vae.spatial):
            net.encoder.compile(dynamic=any_length or None)
            net.decoder.compile(dynamic=any_length or None)
