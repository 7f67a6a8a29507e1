"""In bf16 and fp16 the model does all that it does in fp32, nearly as well, and gives its own dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from material import make_video_vae
from video_vae.models import DiagonalGaussian, VideoAutoencoderKL
from video_vae.models.blocks import Norm
from video_vae.models.tiling import Tiling

LATENTS = {torch.bfloat16: 0.03, torch.float16: 0.005}
VIDEO = {torch.bfloat16: 0.12, torch.float16: 0.015}
"""Root of the mean squared error against fp32, as a share of the fp32 result's root mean square. These nets have random
weights, which carry errors further than trained ones; autocast loses as much."""
FRAMES = 22
HALVES = [torch.bfloat16, torch.float16]


def near(found: Tensor, expected: Tensor, tolerance: dict[torch.dtype, float], dtype: torch.dtype) -> None:
    assert found.dtype == dtype and found.shape == expected.shape and found.isfinite().all()
    error = (found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < tolerance[dtype], f"{error:.4f}"


def chunked(vae: VideoAutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    z = vae.encode_latents(x, overlap=4)
    return z, vae.decode_latents(z, FRAMES, overlap=4)


def whole(vae: VideoAutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    z = vae.encode_latents(x)
    return z, vae.decode_latents(z, FRAMES)


def tiled(vae: VideoAutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    vae.tiling = Tiling(32, 16)
    return whole(vae, x)


def streamed(vae: VideoAutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    z = list(vae.encode_stream(x.split(5, dim=2), FRAMES))
    return torch.cat(z, dim=2), torch.cat(list(vae.decode_stream(z, FRAMES)), dim=2)


WAYS: list[tuple[str, Callable[[VideoAutoencoderKL, Tensor], tuple[Tensor, Tensor]], int | None, list[str]]] = [
    ("whole", whole, None, ["clip", "frame"]),
    ("chunked", chunked, 17, ["clip", "frame"]),
    ("tiled", tiled, 17, ["clip", "frame"]),
    ("streamed", streamed, None, ["frame"]),
]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("way", "chunk", "scope"),
    [pytest.param(way, chunk, scope, id=f"{name}-{scope}") for name, way, chunk, scopes in WAYS for scope in scopes],
)
@torch.no_grad()
def test_every_way_through_the_model_is_near_fp32(
    dtype: torch.dtype,
    way: Callable[[VideoAutoencoderKL, Tensor], tuple[Tensor, Tensor]],
    chunk: int | None,
    scope: str,
    tmp_path: Path,
) -> None:
    vae = make_video_vae(tmp_path, chunk_frames=chunk, norm_scope=scope)
    x = torch.rand(1, 3, FRAMES, 40, 48) * 2 - 1
    latents, video = way(vae, x)
    half = VideoAutoencoderKL.from_pretrained(tmp_path / "model", torch_dtype=dtype)
    assert half.dtype == dtype
    found_latents, found_video = way(half, x.to(dtype))
    near(found_latents, latents, LATENTS, dtype)
    near(found_video, video, VIDEO, dtype)


@pytest.mark.parametrize(
    ("dtype", "move"),
    [
        (torch.float16, lambda vae: vae.half()),
        (torch.float16, lambda vae: vae.to("cpu", torch.float16)),
        (torch.bfloat16, lambda vae: vae.to(torch.bfloat16)),
        (torch.bfloat16, lambda vae: vae.bfloat16()),
        (torch.bfloat16, lambda vae: vae.to(dtype=torch.bfloat16)),
    ],
    ids=["half", "to fp16", "to bf16", "bfloat16", "dtype="],
)
@torch.no_grad()
def test_a_model_can_be_moved_there_and_takes_fp32_pixels(
    dtype: torch.dtype, move: Callable[[VideoAutoencoderKL], VideoAutoencoderKL], tmp_path: Path
) -> None:
    vae, x = make_video_vae(tmp_path), torch.rand(2, 3, 6, 16, 24) * 2 - 1
    video, spatial = vae.reconstruct(x), vae.reconstruct_spatial(x)
    moved = move(vae)
    near(moved.reconstruct(x), video, VIDEO, dtype)
    near(moved.reconstruct_spatial(x), spatial, VIDEO, dtype)
    drawn = moved.encode_latents(x, torch.Generator().manual_seed(3))
    assert drawn.dtype == dtype and drawn.isfinite().all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_posterior_keeps_what_half_precision_cannot_hold(dtype: torch.dtype) -> None:
    moments = torch.cat((torch.full((1, 4, 3, 2, 2), 300.0), torch.full((1, 4, 3, 2, 2), 25.0)), dim=1)
    wide, half = DiagonalGaussian(moments), DiagonalGaussian(moments.to(dtype), dtype)
    assert half.mean.dtype == half.logvar.dtype == half.mode().dtype == half.sample().dtype == half.std.dtype == dtype
    torch.testing.assert_close(half.kl(), wide.kl())  # exp(20) and 300 ** 2 are beyond fp16
    near(half.sample(torch.Generator().manual_seed(0)), wide.sample(torch.Generator().manual_seed(0)), LATENTS, dtype)


@torch.no_grad()
def test_a_spatial_vae_whose_activations_pass_fp16_stays_finite(tmp_path: Path) -> None:
    vae, x = make_video_vae(tmp_path), torch.rand(1, 3, 5, 16, 16) * 2 - 1
    for net in (vae.spatial.encoder, vae.spatial.decoder):  # as SDXL's: 1e6 between layers that the next norm takes out
        net.mid_block.resnets[1].norm2.weight.mul_(1e3)
        net.mid_block.resnets[1].conv2.weight.mul_(1e3)
    latents, video = vae.encode_spatial(x), vae.reconstruct_spatial(x)
    half = vae.half()
    weights = {name: value.clone() for name, value in half.state_dict().items()}
    near(half.encode_spatial(x), latents, LATENTS, torch.float16)
    near(half.reconstruct_spatial(x), video, VIDEO, torch.float16)
    assert all(torch.equal(value, weights[name]) for name, value in half.state_dict().items())
    half.spatial.register_to_config(force_upcast=False)  # its maker says that it is made for fp16
    assert not half.encode_spatial(x).isfinite().all()


@pytest.mark.parametrize("scope", ["clip", "frame"])
def test_autocast_sees_fp32_norms_and_posteriors(scope: str, tmp_path: Path) -> None:
    vae = make_video_vae(tmp_path, norm_scope=scope)
    norm = Norm(2, 4, scope)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 4, 5, 6, 6).bfloat16()
    frames = x.float() if scope == "clip" else x.float().transpose(1, 2).flatten(0, 1)
    plain = functional.group_norm(frames, 2, norm.weight, norm.bias, 1e-5)
    if scope == "frame":
        plain = plain.unflatten(0, (2, 5)).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), plain.bfloat16())
        temporal = vae.temporal.encode(torch.randn(1, 4, 5, 2, 2)).latent_dist
        spatial = vae.spatial_posterior(torch.rand(1, 3, 2, 16, 16))
    assert temporal.mode().dtype == temporal.std.dtype == spatial.mode().dtype == torch.float32
