"""Losses equal the published training's, in float32 whatever the autocast."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from video_vae import losses
from video_vae.metrics import LPIPS
from video_vae.models.posterior import DiagonalGaussian

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_small.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as data:
        return {name: torch.from_numpy(np.asarray(data[name])) for name in data}


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    import lpips

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by an old keyword
        net: torch.nn.Module = lpips.LPIPS(net="vgg", pretrained=True, pnet_rand=True, verbose=False)
    return net


@pytest.fixture(scope="module")
def perceptual(reference: torch.nn.Module) -> losses.PerceptualLoss:
    net = LPIPS("vgg", spatial=False)
    net.load_state_dict(reference.state_dict())
    return losses.PerceptualLoss(net)


def test_reconstruction_and_kl_equal_the_reference(golden: dict[str, torch.Tensor]) -> None:
    nll = losses.reconstruction_nll(golden["target"], golden["reconstruction"], golden["logvar"])
    posterior = DiagonalGaussian(golden["moments"])
    torch.testing.assert_close(nll, golden["nll"], rtol=1e-6, atol=0)
    torch.testing.assert_close(posterior.kl(), golden["kl_per_sample"], rtol=1e-6, atol=0)
    torch.testing.assert_close(1e-6 * losses.kl(posterior), golden["weighted_kl"], rtol=1e-6, atol=0)


def test_output_log_variance_scales_and_counts(golden: dict[str, torch.Tensor]) -> None:
    target, reconstruction = golden["target"], golden["reconstruction"]
    logvar, elements = 0.7, target[0, :, 0].numel()
    expected = losses.reconstruction_nll(target, reconstruction) / np.exp(logvar) + logvar * elements
    torch.testing.assert_close(losses.reconstruction_nll(target, reconstruction, logvar), expected.float())


def test_readable_error_is_the_sum_over_a_frames_elements(golden: dict[str, torch.Tensor]) -> None:
    target, reconstruction = golden["target"], golden["reconstruction"]
    per_element = losses.mean_absolute_error(target, reconstruction)
    torch.testing.assert_close(per_element * target[0, :, 0].numel(), losses.reconstruction_nll(target, reconstruction))


def test_losses_of_bf16_tensors_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    target, reconstruction = (torch.randn(1, 4, 17, 32, 32).bfloat16() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.reconstruction_nll(target, reconstruction)
    assert loss.dtype == torch.float32
    exact = (target.double() - reconstruction.double()).abs().sum() / 17
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        losses.reconstruction_nll(torch.zeros(1, 4, 5, 4, 4), torch.zeros(1, 4, 1, 4, 4))


def test_perceptual_weight_balances_against_the_mean_error_at_any_size() -> None:
    distances = torch.tensor([0.2, 0.4])
    for side in (8, 16):
        frame = 3 * side * side
        target, reconstruction = torch.zeros(1, 3, 2, side, side), torch.full((1, 3, 2, side, side), 0.3)
        ratio = losses.perceptual_nll(distances, frame) / losses.reconstruction_nll(target, reconstruction)
        torch.testing.assert_close(ratio, torch.tensor(1.0))


def test_perceptual_loss_is_zero_on_equal_frames_and_reaches_the_reconstruction_only(
    perceptual: losses.PerceptualLoss,
) -> None:
    torch.manual_seed(1)
    target = torch.rand(5, 3, 32, 32) * 2 - 1
    reconstruction = (target + 0.3 * torch.randn_like(target)).requires_grad_()
    assert perceptual(target, target).abs().max() < 1e-6
    distances = perceptual(target, reconstruction)
    assert distances.shape == (5,) and (distances > 0).all()
    distances.sum().backward()
    assert reconstruction.grad is not None and reconstruction.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in perceptual.parameters())


def test_perceptual_loss_and_its_gradient_are_those_of_the_lpips_package_and_of_the_metric(
    perceptual: losses.PerceptualLoss, reference: torch.nn.Module
) -> None:
    torch.manual_seed(4)
    target, start = torch.rand(3, 3, 48, 40) * 2 - 1, torch.rand(3, 3, 48, 40) * 2 - 1
    values, gradients = [], []
    for score in (perceptual, reference):
        reconstruction = start.clone().requires_grad_()
        distances = score(target, reconstruction).flatten()
        distances.sum().backward()
        values.append(distances.detach())
        gradients.append(reconstruction.grad)
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)
    metric = perceptual.net((target + 1) / 2, (start + 1) / 2)
    torch.testing.assert_close(values[0].double(), metric, rtol=1e-5, atol=0)


def test_perceptual_loss_ignores_autocast_and_training_mode(perceptual: losses.PerceptualLoss) -> None:
    torch.manual_seed(2)
    target, reconstruction = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    plain = perceptual(target, reconstruction)
    perceptual.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perceptual(target, reconstruction), plain)


def test_recomputed_perceptual_loss_has_the_same_gradient(perceptual: losses.PerceptualLoss) -> None:
    torch.manual_seed(3)
    target, start = torch.rand(5, 3, 32, 32), torch.rand(5, 3, 32, 32)
    gradients: list[torch.Tensor | None] = []
    for recompute in (False, True):
        perceptual.recompute = recompute
        reconstruction = start.clone().requires_grad_()
        perceptual(target, reconstruction).sum().backward()
        gradients.append(reconstruction.grad)
    plain, recomputed = gradients
    assert plain is not None and recomputed is not None and torch.equal(plain, recomputed)
