"""The nets are the published ones, causal where they say so, and take every length."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers import AutoencoderKL

from golden import arrays, fill, shapes
from video_vae import config as settings
from video_vae.errors import UserError
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.weights.loading import build_temporal, load_spatial, load_video_vae

TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 0.0}


def small_spatial(levels: int = 2) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32) + (32,) * (levels - 2),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )


def small_temporal(scope: str = "clip") -> TemporalAutoencoderKL:
    return TemporalAutoencoderKL(base_channels=32, layers_per_block=1, norm_scope=scope).eval()


def tiny(scope: str) -> VideoAutoencoderKL:
    torch.manual_seed(0)
    temporal = TemporalAutoencoderKL(base_channels=8, layers_per_block=1, norm_num_groups=4, norm_scope=scope)
    return VideoAutoencoderKL(small_spatial(), temporal, chunk_frames=None).eval()


def test_state_dict_is_the_published_one() -> None:
    with torch.device("meta"):
        spatial = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        net = VideoAutoencoderKL(spatial, TemporalAutoencoderKL())
    found = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    assert found == shapes("opensora_vae_v1_2_state_dict")
    assert len(found) == 517


@pytest.mark.parametrize("frames", [1, 4, 17])
@torch.no_grad()
def test_temporal_net_gives_the_golden_numbers(frames: int) -> None:
    net, golden = small_temporal(), arrays(f"temporal_small_T{frames}")
    fill(net)
    posterior = net.encode(golden["x"]).latent_dist
    torch.testing.assert_close(posterior.mean, golden["mean"], **TOLERANCE)
    torch.testing.assert_close(posterior.logvar, golden["logvar"], **TOLERANCE)
    torch.testing.assert_close(posterior.kl(), golden["kl"], atol=1e-3, rtol=1e-6)
    torch.testing.assert_close(net.decode(posterior.mode(), num_frames=frames).sample, golden["rec"], **TOLERANCE)


@pytest.mark.parametrize(("name", "chunk"), [("pipeline_small_T17", None), ("pipeline_small_T40_micro17", 17)])
@torch.no_grad()
def test_pipeline_gives_the_golden_numbers(name: str, chunk: int | None) -> None:
    net = VideoAutoencoderKL(small_spatial(), small_temporal(), chunk_frames=chunk).eval()
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == shapes("pipeline_small_state_dict")
    fill(net, keep=("scale", "shift"))
    golden = arrays(name)
    z = net.encode_latents(golden["x"])
    torch.testing.assert_close(net.encode_spatial(golden["x"]), golden["x_z"], **TOLERANCE)
    torch.testing.assert_close(z, golden["z"], **TOLERANCE)
    torch.testing.assert_close(net.decode_latents(z, golden["x"].shape[2]), golden["rec"], **TOLERANCE)
    torch.testing.assert_close(net.reconstruct_spatial(golden["x"]), golden["spatial"], **TOLERANCE)


@pytest.mark.parametrize(("scope", "causal"), [("frame", True), ("clip", False)])
@torch.no_grad()
def test_frame_norm_makes_the_net_strictly_causal(scope: str, causal: bool) -> None:
    net = tiny(scope).temporal
    x = torch.randn(1, 4, 20, 6, 6)
    changed = x.clone()
    changed[:, :, 12:] += torch.randn(1, 4, 8, 6, 6)
    first, second = (net.decode(net.encode(v).latent_dist.mode(), 20).sample for v in (x, changed))
    assert torch.equal(first[:, :, :12], second[:, :, :12]) is causal
    assert not torch.allclose(first[:, :, 12:], second[:, :, 12:])


@pytest.mark.parametrize("sizes", [(1,) * 23, (5, 1, 9, 8), (23,), (2, 21), (16, 7)])
@torch.no_grad()
def test_stream_equals_the_full_pass_however_it_is_cut(sizes: tuple[int, ...]) -> None:
    net = tiny("frame")
    x = torch.rand(1, 3, 23, 8, 8) * 2 - 1
    z = net.encode_latents(x)
    streamed = list(net.encode_stream(iter(x.split(list(sizes), dim=2)), num_frames=23))
    torch.testing.assert_close(torch.cat(streamed, dim=2), z, **TOLERANCE)
    decoded = list(net.decode_stream(iter(streamed), num_frames=23))
    torch.testing.assert_close(torch.cat(decoded, dim=2), net.decode_latents(z, 23), **TOLERANCE)


def test_stream_refuses_what_it_cannot_do_exactly() -> None:
    with pytest.raises(ValueError, match="norm_scope"):
        list(tiny("clip").encode_stream([torch.zeros(1, 3, 4, 8, 8)]))
    with pytest.raises(ValueError, match="num_frames"):
        list(tiny("frame").encode_stream(iter([torch.zeros(1, 3, 4, 8, 8)])))
    with pytest.raises(ValueError, match="num_frames"):
        list(tiny("frame").encode_stream([torch.zeros(1, 3, 4, 8, 8)], num_frames=7))


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8])
@torch.no_grad()
def test_every_length_comes_back_at_its_length(frames: int) -> None:
    x = torch.rand(2, 3, frames, 8, 12) * 2 - 1
    assert tiny("clip").reconstruct(x).shape == x.shape


def test_wrong_shapes_are_named() -> None:
    net = tiny("clip")
    with pytest.raises(ValueError, match=r"multiples of 2, not \(1, 3, 4, 7, 8\)"):
        net.encode_latents(torch.zeros(1, 3, 4, 7, 8))
    with pytest.raises(ValueError, match="2 latent frames do not hold 17 frames; expected 5"):
        net.decode_latents(torch.zeros(1, 4, 2, 4, 4), 17)
    with pytest.raises(ValueError, match=r"\(B, 4, T, H, W\)"):
        net.temporal.encode(torch.zeros(1, 3, 4, 8, 8))


@torch.no_grad()
def test_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    net, x = tiny("clip"), torch.rand(1, 3, 5, 8, 8)
    net.save_pretrained(tmp_path / "model")
    again = load_video_vae(tmp_path / "model").eval()
    assert torch.equal(again.reconstruct(x), net.reconstruct(x))
    assert again.config["chunk_frames"] is None


def test_sampling_is_a_function_of_the_generator() -> None:
    net, x = tiny("clip"), torch.rand(1, 3, 5, 8, 8)
    with torch.no_grad():
        first, second, other = (net.encode_latents(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    net = tiny("clip").temporal.train()
    x = torch.randn(1, 4, 8, 4, 4)

    def gradients() -> list[torch.Tensor]:
        net.zero_grad()
        reconstruction, posterior = net(x, torch.Generator().manual_seed(0))
        ((reconstruction - x).abs().mean() + posterior.kl().mean()).backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    plain = gradients()
    net.enable_gradient_checkpointing()
    assert net.encoder.gradient_checkpointing
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("scope", ["clip", "frame"])
@torch.no_grad()
def test_net_can_start_as_interpolation(scope: Literal["clip", "frame"]) -> None:
    shape = settings.Temporal(
        base_channels=16, layers_per_block=1, norm_num_groups=4, norm_scope=scope, init="interpolate"
    )
    net = build_temporal(shape, seed=0).eval()
    x = torch.randn(1, 4, 1, 8, 8) + torch.linspace(0, 1, 17)[None, None, :, None, None]
    posterior = net.encode(x).latent_dist
    error = (net.decode(posterior.mode(), 17).sample - x).abs().mean()
    repeated = x[:, :, ::4].repeat_interleave(4, dim=2)[:, :, :17]
    assert error < 0.1
    assert error < 0.5 * (repeated - x).abs().mean() + 0.05


def test_interpolation_needs_room_for_its_channels() -> None:
    with pytest.raises(UserError, match=r"model\.temporal\.init"):
        build_temporal(settings.Temporal(base_channels=8, norm_num_groups=8, init="interpolate"), seed=0)


def test_spatial_vae_comes_from_a_folder_or_says_why_not(tmp_path: Path) -> None:
    small_spatial(4).save_pretrained(tmp_path / "vae")
    named = settings.Spatial(pretrained=str(tmp_path / "vae"))
    assert load_spatial(named).config["latent_channels"] == 4
    with pytest.raises(UserError, match="sha256"):
        load_spatial(settings.Spatial(pretrained=str(tmp_path / "vae"), sha256="0" * 64))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_spatial(settings.Spatial(pretrained=str(tmp_path / "nowhere")))
