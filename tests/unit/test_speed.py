"""Options for speed change no result, operations are counted as computed, and missing memory is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from material import TEMPORAL
from training_material import cached, make_data, options, settings, train_here, weights
from video_vae.config import Stage
from video_vae.distributed.device import pick_device
from video_vae.errors import UserError
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.training.memory import out_of_memory_named
from video_vae.training.operations import Speedometer, count_operations, peak
from video_vae.training.speed import apply_options
from video_vae.training.step import Draws, StageLoss

FP32 = Stage(steps=1, precision="fp32")


def _loss(stage: Stage, pad_mode: str = "constant") -> StageLoss:
    torch.manual_seed(0)
    spatial = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    return StageLoss(
        VideoAutoencoderKL(spatial, TemporalAutoencoderKL(**TEMPORAL, pad_mode=pad_mode)), stage, spatial_sample=False
    )


def _draws(clips: int, frames: int) -> Draws:
    return Draws(spatial_seeds=range(clips), temporal_seeds=range(clips), scored_frames=[list(range(frames))] * clips)


def _gradients(loss: StageLoss, data: Tensor) -> dict[str, Tensor]:
    loss(data, True, False, _draws(*data.shape[0:3:2]))["loss"].backward()
    return {name: value.grad for name, value in loss.trained().items() if value.grad is not None}


def test_fp32_is_fp32_unless_rounding_is_asked_for() -> None:
    pick_device("cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    apply_options(_loss(Stage(steps=1)).vae, Stage(steps=1, precision="tf32"))
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    pick_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    data = torch.randn(2, 8, 5, 4, 4)
    plain, laid_out = _loss(FP32), _loss(FP32)
    apply_options(laid_out.vae, Stage(steps=1, precision="fp32", channels_last=True))
    wide = [value for value in laid_out.vae.temporal.parameters() if value.ndim == 5 and value[0, 0].numel() > 1]
    assert wide and all(value.is_contiguous(memory_format=torch.channels_last_3d) for value in wide)
    found, wanted = _gradients(laid_out, data), _gradients(plain, data)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))


def test_a_training_with_channels_last_saves_resumes_and_exports(tmp_path: Path) -> None:
    make_data(tmp_path)
    whole = settings(channels_last=True)
    train_here(options(tmp_path, tmp_path / "whole", *cached(tmp_path), config=whole))
    train_here(options(tmp_path, tmp_path / "plain", *cached(tmp_path), config=settings()))
    found, wanted = (weights(tmp_path / name) for name in ("whole", "plain"))
    for name, value in wanted.items():
        assert found[name].is_contiguous()
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_compiled_nets_give_the_same_gradients_at_every_length() -> None:
    stage = Stage(steps=1, precision="fp32", frames=(5, 9), compile=True)
    plain, compiled = _loss(FP32), _loss(FP32)
    apply_options(compiled.vae, stage)
    assert plain.trained().keys() == compiled.trained().keys()
    for frames in (5, 9, 6):
        data = torch.randn(2, 8, frames, 4, 4)
        found, wanted = _gradients(compiled, data), _gradients(plain, data)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))
        for loss in (plain, compiled):
            loss.zero_grad()


def test_nets_are_compiled_for_any_size_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool | None] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, dynamic: asked.append(dynamic))
    for frames, sizes in (((9, 9), 1), ((9, 9), 2), ((5, 9), 1)):
        apply_options(_loss(FP32).vae, Stage(steps=1, precision="fp32", frames=frames, compile=True), sizes=sizes)
    assert asked == [None] * 4 + [True] * 8


def test_operations_are_those_of_the_convolutions_and_nothing_is_computed() -> None:
    loss = _loss(Stage(steps=1))
    counts = [
        count_operations(loss, torch.empty(clips, 8, frames, 4, 4), True, False, _draws(clips, frames))
        for clips, frames in ((1, 5), (2, 5), (1, 9))
    ]
    repeated = _loss(Stage(steps=1), "replicate")
    data = torch.empty(1, 8, 5, 4, 4)
    assert count_operations(repeated, data, True, False, _draws(1, 5)) == counts[0]
    assert counts[1] == 2 * counts[0] and 1.4 * counts[0] < counts[2] < 2 * counts[0]
    # The 1x1x1 convolution in front of the decoder, by hand: its product once forward, twice backward.
    conv = loss.vae.temporal.post_quant_conv
    wanted = 3 * 2 * conv.conv.weight.numel() * loss.vae.temporal.latent_frames(5) * 4 * 4
    z = torch.empty(1, 4, loss.vae.temporal.latent_frames(5), 4, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        conv(z).sum().backward()
    assert counter.get_total_flops() == wanted < counts[0]
    assert all(value.grad is None for name, value in loss.named_parameters() if "post_quant_conv" not in name)


def test_the_speed_of_a_step_is_its_operations_by_its_time() -> None:
    loss, data = _loss(Stage(steps=1)), torch.empty(1, 8, 5, 4, 4)
    operations = count_operations(loss, data, True, False, _draws(1, 5))
    found = Speedometer(loss, torch.device("cpu")).read(data, True, False, _draws(1, 5), 0.5)
    assert found == {"tflop_per_s": pytest.approx(operations / 1e12 / 0.5)}
    assert peak("NVIDIA H100 80GB HBM3", "bf16") == 989.0 and peak("NVIDIA RTX 9000", "bf16") is None


def test_missing_memory_names_the_clips_and_the_settings_that_help() -> None:
    data, stage = torch.empty(2, 3, 33, 8, 8), Stage(steps=1, frames=(1, 33), objective="pixels", train_spatial=True)
    with pytest.raises(UserError) as caught, out_of_memory_named("stage3, step 7", data, stage):
        torch.empty(2**60)
    text = str(caught.value)
    assert text.startswith("stage3, step 7: out of memory on cpu in a pass of 2 clips of 33 frames of 8x8 pixels")
    assert "micro_batch below 2" in text and "gradient_checkpointing: true" in text and "perceptual_frames: 4" in text
    assert "or a smaller data.resolution;" in text
    with pytest.raises(UserError, match="smaller sizes in"), out_of_memory_named("stage3", data, stage, sizes=2):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="something else"), out_of_memory_named("stage3, step 7", data, stage):
        raise RuntimeError("something else")
