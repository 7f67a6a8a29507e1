"""A stage's forward pass: what it draws, what it trains, what it computes in which precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from material import make_video_vae
from video_vae.config import Stage
from video_vae.models import VideoAutoencoderKL
from video_vae.models.posterior import DiagonalGaussian
from video_vae.training.step import Draws, StageLoss, sample

SEEDS = [11, 22]


@pytest.fixture
def vae(tmp_path: Path) -> VideoAutoencoderKL:
    return make_video_vae(tmp_path)


def stage(**changes: object) -> Stage:
    return Stage.model_validate({"steps": 1, "perceptual_weight": 0.0, "precision": "fp32", **changes})


def draws(clips: int, frames: int) -> Draws:
    rows = slice(0, clips)
    return Draws(spatial_seeds=[1, 2][rows], temporal_seeds=[3, 4][rows], scored_frames=[list(range(frames))] * clips)


def pixels(clips: int = 2, frames: int = 5) -> Tensor:
    return torch.rand(clips, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def moments(vae: VideoAutoencoderKL, data: Tensor) -> Tensor:
    with torch.no_grad():
        posterior = vae.spatial_posterior(data)
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def test_noise_of_a_clip_depends_on_its_seed_alone() -> None:
    stacked = torch.randn(2, 8, 3, 4, 5)
    both = sample(DiagonalGaussian(stacked), SEEDS)
    alone = sample(DiagonalGaussian(stacked[1:]), SEEDS[1:])
    turned = DiagonalGaussian(stacked.transpose(2, 4).contiguous().transpose(2, 4))
    assert torch.equal(both[1:], alone)
    assert torch.equal(both, sample(turned, SEEDS))
    assert not torch.equal(both, sample(DiagonalGaussian(stacked), SEEDS[::-1]))


def test_noise_is_standard_normal() -> None:
    posterior = DiagonalGaussian(torch.zeros(2, 8, 10, 32, 32))
    drawn = sample(posterior, SEEDS)
    assert abs(drawn.mean().item()) < 0.01 and abs(drawn.std().item() - 1) < 0.01
    assert abs((drawn[0] * drawn[1]).mean().item()) < 0.02


@pytest.mark.parametrize("objective", ["latents", "pixels"])
def test_the_loss_of_a_batch_is_the_mean_over_its_clips(vae: VideoAutoencoderKL, objective: str) -> None:
    loss = StageLoss(vae, stage(objective=objective), spatial_sample=True)
    data = pixels()
    both = loss(data, False, False, draws(2, 5))
    first = loss(data[:1], False, False, draws(1, 5))
    second = Draws(spatial_seeds=[2], temporal_seeds=[4], scored_frames=[list(range(5))])
    other = loss(data[1:], False, False, second)
    for name, value in both.items():
        torch.testing.assert_close(value, (first[name] + other[name]) / 2)


def test_cached_moments_and_encoding_on_the_fly_are_the_same(vae: VideoAutoencoderKL) -> None:
    loss = StageLoss(vae, stage(), spatial_sample=True)
    data = pixels()
    on_the_fly = loss(data, False, False, draws(2, 5))
    from_cache = loss(moments(vae, data), True, False, draws(2, 5))
    for name, value in on_the_fly.items():
        torch.testing.assert_close(from_cache[name], value)


def test_spatial_latents_are_the_mode_where_they_are_not_sampled(vae: VideoAutoencoderKL) -> None:
    data = pixels()
    for sampled in (True, False):
        loss = StageLoss(vae, stage(), spatial_sample=sampled)
        result = loss(data, False, False, draws(2, 5))["loss"]
        other = Draws(spatial_seeds=[5, 6], temporal_seeds=[3, 4], scored_frames=[[0], [0]])
        assert torch.equal(result, loss(data, False, False, other)["loss"]) != sampled


@pytest.mark.parametrize("train_spatial", [False, True])
def test_the_spatial_vae_learns_in_stages_that_train_it_and_only_there(
    vae: VideoAutoencoderKL, train_spatial: bool
) -> None:
    loss = StageLoss(vae, stage(objective="pixels", train_spatial=train_spatial), spatial_sample=True)
    loss(pixels(), False, False, draws(2, 5))["loss"].backward()
    parts = {name: value.grad is not None for name, value in vae.named_parameters()}
    assert all(learns for name, learns in parts.items() if name.startswith("temporal_vae"))
    assert {learns for name, learns in parts.items() if name.startswith("spatial_vae")} == {train_spatial}
    assert set(loss.trained()) == {name for name, learns in parts.items() if learns}


def test_identity_is_for_images_and_kl_for_all(vae: VideoAutoencoderKL) -> None:
    loss = StageLoss(vae, stage(identity_weight=1.0, kl_weight=0.5), spatial_sample=False)
    image = loss(pixels(frames=1), False, True, draws(2, 1))
    video = loss(pixels(), False, False, draws(2, 5))
    assert "identity" in image and "identity" not in video
    torch.testing.assert_close(image["loss"], image["reconstruction"] + image["identity"] + 0.5 * image["kl"])
    torch.testing.assert_close(video["loss"], video["reconstruction"] + 0.5 * video["kl"])


def test_clips_longer_than_a_chunk_are_seen_whole(vae: VideoAutoencoderKL) -> None:
    assert vae.config["chunk_frames"] == 17
    loss = StageLoss(vae, stage(objective="pixels"), spatial_sample=False)
    data = pixels(clips=1, frames=21)
    lengths: list[int] = []
    hook = vae.temporal.encoder.register_forward_hook(lambda net, given, out: lengths.append(given[0].shape[2]))
    loss(data, False, False, draws(1, 21))
    hook.remove()
    assert lengths == [24]


def test_losses_are_float32_under_bf16(vae: VideoAutoencoderKL) -> None:
    data = moments(vae, pixels())
    exact = StageLoss(vae, stage(), spatial_sample=True)(data, True, False, draws(2, 5))
    rough = StageLoss(vae, stage(precision="bf16"), spatial_sample=True)(data, True, False, draws(2, 5))
    for name, value in rough.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=0.05)
