"""A training step of each stage gives the loss and the gradients of the published modules (tests/golden)."""

from __future__ import annotations

import pytest
import torch

from golden import arrays, fill
from test_models import small_spatial, small_temporal
from video_vae.config import Config
from video_vae.models import VideoAutoencoderKL
from video_vae.models.posterior import DiagonalGaussian
from video_vae.training import step as training_step

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 2e-3
"""Relative, in fp32 on a CPU."""


def check_step(name: str, stage: str, device: torch.device, loss_tolerance: float, gradient_tolerance: float) -> None:
    """Take the step of a golden file on a device and compare the loss and the norm of each gradient, relatively."""
    wanted = {key: value.to(device) for key, value in arrays(name).items()}
    net = VideoAutoencoderKL(small_spatial(), small_temporal(), chunk_frames=None)
    fill(net, salt="step", keep=("scale", "shift"))
    settings = getattr(Config().stages, stage).model_copy(update={"precision": "fp32", "perceptual_weight": 0.0})
    loss = training_step.StageLoss(net, settings, spatial_sample=False).to(device)
    clips, frames = wanted["x"].shape[0], wanted["x"].shape[2]
    draws = training_step.Draws(spatial_seeds=[0] * clips, temporal_seeds=[0] * clips, scored_frames=[[]] * clips)
    value = loss(wanted["x"], latents=False, images=frames == 1, draws=draws)["loss"]
    value.backward()
    torch.testing.assert_close(value.detach(), wanted[f"{stage}_loss"].float(), rtol=loss_tolerance, atol=0)
    norms = {key: value.grad.norm() for key, value in net.named_parameters() if value.grad is not None}
    golden_norms = {key.split("/", 1)[1]: n for key, n in wanted.items() if key.startswith(f"{stage}_grad/")}
    assert norms.keys() >= {key for key, norm in golden_norms.items() if norm > 0}
    for key, norm in golden_norms.items():
        found = norms.get(key, torch.zeros((), device=device))
        torch.testing.assert_close(found, norm.float(), rtol=gradient_tolerance, atol=1e-6)


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
@pytest.mark.parametrize("name", ["step_T17", "step_T1"])
def test_a_step_gives_the_golden_loss_and_gradients(name: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The golden steps take the posterior's mean, so that no noise has to agree.
    monkeypatch.setattr(training_step, "sample", lambda posterior, _: DiagonalGaussian.mode(posterior))
    check_step(name, stage, torch.device("cpu"), LOSS_TOLERANCE, GRADIENT_TOLERANCE)
