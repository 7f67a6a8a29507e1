"""Nets and metrics compute on a GPU what they compute on the processor: golden files, streams, tiles, scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import golden
from test_flolpips import pair
from test_models import small_spatial, small_temporal, tiny
from video_vae.metrics import LPIPS, FloLPIPS, PWCNet, psnr, ssim
from video_vae.models import VideoAutoencoderKL

TOLERANCE: dict[str, Any] = {"atol": 2e-4, "rtol": 0.0}
"""fp32 without TF32: sums in another order."""
METRIC: dict[str, Any] = {"atol": 1e-4, "rtol": 0.0, "check_device": False, "check_dtype": False}
DECIBEL: dict[str, Any] = METRIC | {"atol": 1e-3}


def on(device: torch.device, name: str) -> dict[str, Tensor]:
    return {key: value.to(device) for key, value in golden.arrays(name).items()}


@pytest.mark.parametrize("frames", [1, 4, 17])
@torch.no_grad()
def test_the_temporal_net_gives_the_golden_numbers(device: torch.device, frames: int) -> None:
    net, wanted = small_temporal().to(device), on(device, f"temporal_small_T{frames}")
    golden.fill(net)
    posterior = net.encode(wanted["x"]).latent_dist
    torch.testing.assert_close(posterior.mean, wanted["mean"], **TOLERANCE)
    torch.testing.assert_close(posterior.logvar, wanted["logvar"], **TOLERANCE)
    torch.testing.assert_close(net.decode(posterior.mode(), num_frames=frames).sample, wanted["rec"], **TOLERANCE)


@pytest.mark.parametrize(("name", "chunk"), [("pipeline_small_T17", None), ("pipeline_small_T40_micro17", 17)])
@torch.no_grad()
def test_the_pipeline_gives_the_golden_numbers(device: torch.device, name: str, chunk: int | None) -> None:
    net = VideoAutoencoderKL(small_spatial(), small_temporal(), chunk_frames=chunk).eval().to(device)
    golden.fill(net, keep=("scale", "shift"))
    wanted = on(device, name)
    z = net.encode_latents(wanted["x"])
    torch.testing.assert_close(z, wanted["z"], **TOLERANCE)
    torch.testing.assert_close(net.decode_latents(z, wanted["x"].shape[2]), wanted["rec"], **TOLERANCE)
    torch.testing.assert_close(net.reconstruct_spatial(wanted["x"]), wanted["spatial"], **TOLERANCE)


@torch.no_grad()
def test_streams_and_tiles_are_those_of_the_processor(device: torch.device) -> None:
    net, clip = tiny("frame"), torch.rand(1, 3, 23, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wide = torch.rand(1, 3, 5, 96, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    net.enable_tiling(64, 16)
    expected, tiled = net.encode_latents(clip), net.decode(net.encode(wide).latent_dist.mode()).sample
    net = net.to(device)
    parts = [part.to(device) for part in clip.split([5, 1, 9, 8], dim=2)]
    streamed = torch.cat(list(net.encode_stream(iter(parts), num_frames=23)), dim=2)
    torch.testing.assert_close(streamed.cpu(), expected, **TOLERANCE)
    found = net.decode(net.encode(wide.to(device)).latent_dist.mode()).sample
    torch.testing.assert_close(found.cpu(), tiled, **TOLERANCE)


@torch.no_grad()
def test_metrics_are_those_of_the_processor(device: torch.device) -> None:
    real, generated, expected = pair()
    there = real.to(device), generated.to(device)
    torch.testing.assert_close(ssim(*there), ssim(real, generated), **METRIC)
    torch.testing.assert_close(psnr(*there), psnr(real, generated), **DECIBEL)
    lpips, flow = LPIPS("alex"), PWCNet()
    golden.fill(lpips, "lpips", keep=("scaling_layer.shift", "scaling_layer.scale"))
    state = {key: value.abs() if key.startswith("lin") else value for key, value in lpips.state_dict().items()}
    lpips.load_state_dict({key: value for key, value in state.items() if not key.startswith("lins")})
    golden.fill(flow, "pwc")
    plain = lpips(real, generated)
    torch.testing.assert_close(lpips.to(device)(*there), plain, **METRIC)
    torch.testing.assert_close(FloLPIPS(lpips, flow.to(device))(*there), expected, **METRIC)
