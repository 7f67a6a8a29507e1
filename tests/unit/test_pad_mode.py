"""What is before the first frame: zeros, as in the published net, or the first frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from material import make_tiny_vae, make_video_vae
from test_onnx import assert_equal
from video_vae import config as settings
from video_vae.hub.onnx_files import ClipShape, write_onnx
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.models.blocks import CausalConv3d
from video_vae.training.setup import _architecture
from video_vae.weights.loading import build_temporal, load_video_vae, save_model

Scope = Literal["clip", "frame"]
PadMode = Literal["constant", "replicate"]
MODES: tuple[PadMode, ...] = ("constant", "replicate")
SCOPES: tuple[Scope, ...] = ("clip", "frame")


def interpolating(pad_mode: PadMode, scope: Scope = "clip") -> TemporalAutoencoderKL:
    """A net that starts as interpolation."""
    shape = settings.Temporal(
        base_channels=16,
        layers_per_block=1,
        norm_num_groups=4,
        norm_scope=scope,
        init="interpolate",
        pad_mode=pad_mode,
    )
    return build_temporal(shape, seed=0).eval()


def random_net(pad_mode: PadMode, scope: Scope = "clip") -> TemporalAutoencoderKL:
    """A net with random weights."""
    torch.manual_seed(0)
    sizes = {"base_channels": 8, "layers_per_block": 1, "norm_num_groups": 4}
    return TemporalAutoencoderKL(**sizes, norm_scope=scope, pad_mode=pad_mode).eval()


def scene(frames: int) -> Tensor:
    """A scene that stands, with a little that is new in each frame."""
    generator = torch.Generator().manual_seed(0)
    still = torch.randn(2, 4, 1, 8, 8, generator=generator)
    return still + 0.05 * torch.randn(2, 4, frames, 8, 8, generator=generator)


def decibels(net: TemporalAutoencoderKL, x: Tensor) -> Tensor:
    """PSNR of each frame of a reconstruction, for a peak of 1."""
    error = net.decode(net.encode(x).latent_dist.mode(), x.shape[2]).sample - x
    return -10 * error.square().mean(dim=(0, 1, 3, 4)).log10()


@pytest.mark.parametrize("frames", [2, 16, 18, 19])
@pytest.mark.parametrize("scope", SCOPES)
@torch.no_grad()
def test_first_frames_of_lengths_that_are_not_4n_plus_1_are_as_good_as_the_others(frames: int, scope: Scope) -> None:
    x = scene(frames)
    first = (frames - 1) % 4  # frames of the first group but its last one, which has a latent of its own
    zeros, repeated = (decibels(interpolating(mode, scope), x) for mode in MODES)
    assert (zeros[:first] < 18).all() and (repeated[:first] > 20).all()
    between = [frame for frame in range(first + 1, frames) if (frame - first) % 4]
    if between:
        assert (repeated[:first] > repeated[between].min() - 2).all()
        assert (zeros[between] - zeros[:first].max()).min() > 4


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("frames", [1, 3, 16, 17])
@torch.no_grad()
def test_latents_of_a_scene_that_stands_stand_from_the_first_one_on(frames: int, scope: Scope) -> None:
    x = scene(1).expand(-1, -1, frames, -1, -1)
    means = random_net("replicate", scope).encode(x).latent_dist.mode()
    torch.testing.assert_close(means, means[:, :, -1:].expand_as(means), atol=1e-4, rtol=0)
    moved = random_net("constant", scope).encode(x).latent_dist.mode()
    assert frames < 4 or (moved[:, :, 0] - moved[:, :, -1]).abs().max() > 0.01


@torch.no_grad()
def test_every_convolution_with_a_history_repeats_its_first_frame() -> None:
    net = random_net("replicate")
    assert net.state_dict().keys() == random_net("constant").state_dict().keys()
    convolutions = [module for module in net.modules() if isinstance(module, CausalConv3d) and module.history > 0]
    assert len(convolutions) > 20 and {type(module).__name__ for module in convolutions} >= {
        "TimeDownsample",
        "TimeUpsample",
    }
    for module in convolutions:
        x = torch.randn(1, module.conv.in_channels, 4, 3, 3)
        before = x[:, :, :1].repeat(1, 1, module.history, 1, 1)
        assert torch.equal(CausalConv3d.forward(module, x), module.conv(torch.cat((before, x), dim=2)))


@pytest.mark.parametrize("frames", [16, 17, 23])
@pytest.mark.parametrize("size", [1, 3, 8, 23])
@torch.no_grad()
def test_a_stream_is_one_pass(frames: int, size: int) -> None:
    net, x = random_net("replicate", "frame"), torch.randn(1, 4, frames, 6, 6)
    whole = net.encode(x).latent_dist.mode()
    empty = x[:, :, :0]
    parts = list(net.encode_stream([empty, *x.split(size, dim=2)]))
    streamed = torch.cat([part.mode() for part in parts], dim=2)
    torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=0)
    decoded = torch.cat(list(net.decode_stream(iter(streamed.split(1, dim=2)), num_frames=frames)), dim=2)
    torch.testing.assert_close(decoded, net.decode(whole, frames).sample, atol=1e-4, rtol=0)


@torch.no_grad()
def test_each_chunk_starts_with_its_own_first_frame(tmp_path: Path) -> None:
    vae = make_video_vae(tmp_path, pad_mode="replicate")
    x = torch.rand(1, 3, 33, 16, 16) * 2 - 1
    found = vae.reconstruct(x)
    alone = torch.cat([vae.reconstruct(part) for part in (x[:, :, :17], x[:, :, 17:])], dim=2)
    torch.testing.assert_close(found, alone)
    streamed = list(vae.encode_stream(iter(x.split(5, dim=2)), num_frames=33))
    torch.testing.assert_close(torch.cat(streamed, dim=2), vae.encode_latents(x))
    vae.temporal.register_to_config(pad_mode="constant")  # the frames that fill groups of four alone
    assert not torch.equal(vae.encode_latents(x[:, :, :17]), torch.cat(streamed, dim=2)[:, :, :5])


@pytest.mark.parametrize("pad_mode", MODES)
def test_gradients_are_the_same_with_checkpointing(pad_mode: PadMode) -> None:
    net, x = random_net(pad_mode).train(), torch.randn(1, 4, 7, 4, 4)
    found = []
    for _ in range(2):
        net.zero_grad()
        reconstruction, _ = net(x, torch.Generator().manual_seed(0))
        (reconstruction - x).abs().mean().backward()
        found.append([value.grad.clone() for value in net.parameters() if value.grad is not None])
        net.enable_gradient_checkpointing()
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


@torch.no_grad()
def test_onnx_files_give_what_the_net_gives(tmp_path: Path) -> None:
    save_model(make_tiny_vae(tmp_path, chunk_frames=5, pad_mode="replicate"), tmp_path / "model")
    (tmp_path / "out").mkdir()
    net = load_video_vae(tmp_path / "model")
    assert len(list(write_onnx(net, tmp_path / "out", ClipShape(8, 8, 8), {}))) == 2
    assert_equal(tmp_path / "model", tmp_path / "out", (8, 8, 8))


@torch.no_grad()
def test_a_model_saved_before_the_setting_was_has_zeros(tmp_path: Path) -> None:
    vae, x = make_video_vae(tmp_path), torch.rand(1, 3, 6, 16, 16)
    place = tmp_path / "model" / "config.json"
    values = json.loads(place.read_text())
    del values["temporal"]["pad_mode"]
    place.write_text(json.dumps(values))
    for again in (load_video_vae(tmp_path / "model"), VideoAutoencoderKL.from_pretrained(tmp_path / "model")):
        assert again.temporal.config["pad_mode"] == "constant"
        assert torch.equal(again.eval().reconstruct(x), vae.reconstruct(x))


def test_a_training_of_before_is_resumed_and_one_with_the_setting_is_another() -> None:
    assert "pad_mode" not in _architecture(settings.Temporal())
    assert _architecture(settings.Temporal(pad_mode="replicate"))["pad_mode"] == "replicate"


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="pad_mode must be one of constant, replicate, not reflect"):
        TemporalAutoencoderKL(base_channels=8, layers_per_block=1, norm_num_groups=4, pad_mode="reflect")
