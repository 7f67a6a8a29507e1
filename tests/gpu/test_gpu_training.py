"""Training on a GPU: steps as on the processor, resumed bit for bit, under NCCL, and out of memory told in a line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import golden
from test_models import small_spatial, small_temporal
from training_material import cached, log_lines, make_data, options, settings, train_apart, weights
from video_vae.config import Config, StageName
from video_vae.models import VideoAutoencoderKL
from video_vae.training.step import Draws, StageLoss

STEP = {"fp32": 1e-4, "bf16": 3e-2}
"""Relative tolerance of the loss and of the gradient's norm against the processor's in fp32."""


def step(device: torch.device, stage: StageName, precision: str) -> tuple[float, float]:
    """Compute the loss of a step on golden clips, without noise, and the norm of its gradient."""
    wanted = golden.arrays("step_T17")
    net = VideoAutoencoderKL(small_spatial(), small_temporal(), chunk_frames=None)
    golden.fill(net, salt="step", keep=("scale", "shift"))
    changed = {"precision": precision, "perceptual_weight": 0.0}
    loss = StageLoss(net, Config().stages.of(stage).model_copy(update=changed), spatial_sample=False).to(device)
    clips = wanted["x"].shape[0]
    noise = Draws(spatial_seeds=[0] * clips, temporal_seeds=[0] * clips, scored_frames=[[]] * clips)
    value = loss(wanted["x"].to(device), latents=False, images=False, draws=noise)["loss"]
    value.backward()
    gradients = [part.grad for part in loss.trained().values() if part.grad is not None]
    return value.item(), torch.nn.utils.get_total_norm(gradients).item()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_step_is_that_of_the_processor(
    device: torch.device, stage: StageName, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_vae.training.step.sample", lambda posterior, _: posterior.mode())
    expected, found = step(torch.device("cpu"), stage, "fp32"), step(device, stage, precision)
    assert found == pytest.approx(expected, rel=STEP[precision])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


def arguments(data: Path, output: Path, device: torch.device, *extra: str) -> list[str]:
    """Return the arguments of a training on the device, of 6 steps with a checkpoint every second one."""
    given = options(data, output, *extra, *cached(data), config=settings(steps=6))
    given[given.index("--device") + 1] = device.type
    return given


def test_a_stopped_training_goes_on_bit_for_bit(
    data: Path, tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    output = tmp_path / "run" / "stage1"
    for first in (True, False):
        done = train_apart(arguments(data, output, device))
        assert done.returncode == 0, done.stderr
        if first:  # then the last checkpoint and the outputs are taken away, as if it had been killed after step 4
            whole = weights(output)
            shutil.rmtree(output)
            *_, before, last = sorted((output.parent / "state" / "stage1").glob("*/step-*"))
            shutil.rmtree(last)
            assert before.name.endswith("4") and last.name.endswith("6")
    assert [line["step"] for line in log_lines(output / "log.jsonl", "resume")] == [4]
    assert all(torch.equal(value, weights(output)[name]) for name, value in whole.items())


def test_nccl_ranks_train(data: Path, tmp_path: Path, cuda: torch.device) -> None:
    ranks = max(count for count in (1, 2, 4) if count <= torch.cuda.device_count())
    done = train_apart(arguments(data, tmp_path / "out", cuda), ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert all(value.isfinite().all() for value in weights(tmp_path / "out").values())


def test_out_of_memory_is_told_in_one_line(data: Path, tmp_path: Path, cuda: torch.device) -> None:
    given = arguments(data, tmp_path / "out", cuda)
    given[0] = settings(steps=2, global_batch=1 << 16, micro_batch=1 << 16)
    done = train_apart(given)
    assert done.returncode != 0 and "Traceback" not in done.stderr and "micro_batch" in done.stderr
