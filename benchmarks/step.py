"""A stage-1 step on the latent cache against the same step as public code does it, and stage 3's memory.

The public way encodes the frames, decodes the result and scores it with LPIPS in every step, for a loss that stage 1
does not use. Full-size nets with random weights: weights do not change the time.

    python -m benchmarks.step CHECKPOINTING SIDE FRAMES      one stage-3 step in a process of its own
"""

from __future__ import annotations

import json
import sys
import time

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from benchmarks.common import OURS, Call, Options, compare, in_process, markdown, table
from video_vae.config import Stage
from video_vae.losses import PerceptualLoss
from video_vae.metrics import LPIPS
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.training.step import Draws, StageLoss

FRAMES = 17
STAGE1 = Stage(steps=1, identity_weight=1.0, perceptual_weight=0.0, precision="fp32")
STAGE3 = Stage(steps=1, objective="pixels", train_spatial=True, precision="fp32")


def build(quick: bool) -> VideoAutoencoderKL:
    """Build the paper's net (the SDXL VAE's size, 309.7 M temporal), or a small one, with random weights."""
    torch.manual_seed(0)
    widths = (32, 32, 64, 64) if quick else (128, 256, 512, 512)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    spatial = AutoencoderKL(block_out_channels=widths, layers_per_block=2, **blocks)
    temporal = TemporalAutoencoderKL(base_channels=32) if quick else TemporalAutoencoderKL()
    return VideoAutoencoderKL(spatial, temporal, chunk_frames=None)


def perceptual() -> PerceptualLoss:
    """Build LPIPS-VGG with random weights."""
    return PerceptualLoss(LPIPS("vgg", spatial=False))


def draws(frames: int) -> Draws:
    """Return the noise of one clip."""
    return Draws(spatial_seeds=[1], temporal_seeds=[2], scored_frames=[range(frames)])


def optimizer_of(loss: StageLoss) -> torch.optim.Optimizer:
    """Return the optimizer of what a stage trains."""
    return torch.optim.AdamW(loss.trained().values(), lr=1e-5, weight_decay=0.0, fused=True)


def run_step(options: Options) -> str:
    """Time stage-1 steps of one clip."""
    side = 32 if options.quick else 64
    vae, lpips = build(options.quick), perceptual()
    loss = StageLoss(vae, STAGE1, spatial_sample=True)
    optimizer = optimizer_of(loss)
    video = torch.rand(1, 3, FRAMES, side, side) * 2 - 1
    with torch.no_grad():
        posterior = vae.spatial_posterior(video)
        moments = torch.cat((posterior.mean, posterior.logvar), dim=1)
        # Stand in for the step's own result: as large, and the step itself encodes once already.
        result = posterior.mode() * vae.config["scaling_factor"]

    def step(data: Tensor, latents: bool) -> None:
        """Take one optimizer step."""
        loss(data, latents, False, draws(FRAMES))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    def public() -> None:
        """Encode, step, decode and score, the scores thrown away."""
        step(video, False)
        with torch.no_grad():
            decoded = vae.decode_spatial(result)
            lpips(video[0].transpose(0, 1), decoded[0].transpose(0, 1))

    calls: dict[str, Call] = {
        "as public code: encode, decode and LPIPS in every step": public,
        "pixels, without the unused decoding and LPIPS": lambda: step(video, False),
        f"{OURS}, latent cache": lambda: step(moments, True),
    }
    title = f"A stage-1 step of one clip, {FRAMES} frames of {side}x{side}, fp32"
    return table(title, compare(calls, max(2, options.rounds // 2)), "step", 1)


def run_memory(options: Options) -> str:
    """Measure the peak memory of a stage-3 step with and without gradient checkpointing."""
    side = 32 if options.quick else 64
    rows = []
    for checkpointing in (False, True):
        peak, said = in_process("step", int(checkpointing), side, FRAMES, int(options.quick))
        rows.append(("on" if checkpointing else "off", f"{peak:.0f}", f"{said['state']:.0f}", f"{said['seconds']:.1f}"))
    state = "of it weights, gradients and optimizer (computed), MB"
    header = ["gradient checkpointing", "peak, MB", state, "s per step"]
    return markdown(
        f"A stage-3 step of one clip, {FRAMES} frames of {side}x{side}, fp32, LPIPS on all frames", header, rows
    )


def child(checkpointing: bool, side: int, frames: int, quick: bool) -> None:
    """Take two stage-3 steps and print the seconds of the second and the memory of the state."""
    vae, lpips = build(quick), perceptual()
    lpips.recompute = checkpointing
    if checkpointing:
        vae.enable_gradient_checkpointing()
    loss = StageLoss(vae, STAGE3, spatial_sample=True, perceptual=lpips)
    optimizer = optimizer_of(loss)
    video = torch.rand(1, 3, frames, side, side) * 2 - 1
    for _ in range(2):
        start = time.perf_counter()
        loss(video, False, False, draws(frames))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
    # Weights, gradients and two moments, in fp32.
    state = 16 * sum(parameter.numel() for parameter in vae.parameters()) / 2**20
    sys.stdout.write(json.dumps({"seconds": seconds, "state": state}) + "\n")


if __name__ == "__main__":
    child(*(int(value) for value in sys.argv[1:]))  # type: ignore[arg-type]
