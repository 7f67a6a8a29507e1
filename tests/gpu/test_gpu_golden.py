"""Steps, losses and scores give on a GPU what the golden files hold."""

from __future__ import annotations

import pytest
import torch

import golden
from test_golden_steps import check_step
from test_psnr_ssim import pair
from video_vae import losses
from video_vae.metrics import psnr, ssim
from video_vae.models.posterior import DiagonalGaussian
from video_vae.training import step as training_step

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-2
"""Relative, in fp32: ten and five times those of the processor, since sums run in another order."""


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
@pytest.mark.parametrize("name", ["step_T17", "step_T1"])
def test_a_step_gives_the_golden_loss_and_gradients(
    name: str, stage: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_step, "sample", lambda posterior, _: DiagonalGaussian.mode(posterior))
    check_step(name, stage, device, LOSS_TOLERANCE, GRADIENT_TOLERANCE)


def test_losses_give_the_golden_numbers(device: torch.device) -> None:
    wanted = {name: value.to(device) for name, value in golden.arrays("loss_small").items()}
    nll = losses.reconstruction_nll(wanted["target"], wanted["reconstruction"], wanted["logvar"])
    posterior = DiagonalGaussian(wanted["moments"])
    torch.testing.assert_close(nll, wanted["nll"], rtol=1e-5, atol=0)
    torch.testing.assert_close(posterior.kl(), wanted["kl_per_sample"], rtol=1e-5, atol=0)
    torch.testing.assert_close(1e-6 * losses.kl(posterior), wanted["weighted_kl"], rtol=1e-5, atol=0)


def test_ssim_and_psnr_give_the_golden_numbers(device: torch.device) -> None:
    real, generated, wanted = pair()
    there = real.to(device), generated.to(device)
    torch.testing.assert_close(psnr(*there).cpu(), wanted["psnr"], atol=1e-3, rtol=0, check_dtype=False)
    torch.testing.assert_close(ssim(*there).cpu(), wanted["ssim"], atol=1e-4, rtol=0, check_dtype=False)
