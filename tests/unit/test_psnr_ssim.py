"""PSNR, SSIM and flicker are what the reference, scikit-image and their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

import golden
from video_vae.metrics import flicker, mse, psnr, psnr_from_mse, ssim, structural


def pair() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    data = golden.arrays("metrics_bikes_64")
    return data["real"].float() / 255, data["generated"].float() / 255, data


def test_equal_to_the_reference() -> None:
    real, generated, data = pair()
    torch.testing.assert_close(psnr(real, generated), data["psnr"], atol=1e-6, rtol=0)
    torch.testing.assert_close(ssim(real, generated), data["ssim"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (47, 61), (11, 12)])
def test_ssim_equal_to_skimage(size: tuple[int, int]) -> None:
    real, generated, _ = pair()
    real, generated = real[:, :, : size[0], : size[1]], generated[:, :, : size[0], : size[1]]
    expected = []
    for a, b in zip(real.double().numpy(), generated.double().numpy(), strict=True):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        _, full = structural_similarity(a, b, channel_axis=0, full=True, **options)
        expected.append(full[:, 5:-5, 5:-5].mean())
    np.testing.assert_allclose(ssim(real, generated).numpy(), expected, atol=1e-6)


def test_psnr_equal_to_skimage() -> None:
    real, generated, _ = pair()
    pairs = zip(real.double().numpy(), generated.double().numpy(), strict=True)
    expected = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs]
    np.testing.assert_allclose(psnr(real, generated).numpy(), expected, atol=1e-5)


def test_ssim_is_exact_where_single_precision_is_hard() -> None:
    """Bright, nearly flat frames, where variances are tiny differences of large moments."""
    noise = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) / 255
    real, generated = 0.97 + noise[:1], 0.97 + noise[1:]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    a, b = real[0].double().numpy(), generated[0].double().numpy()
    _, full = structural_similarity(a, b, channel_axis=0, full=True, **options)
    assert abs(float(ssim(real, generated)) - full[:, 5:-5, 5:-5].mean()) < 1e-6


def test_both_ways_of_filtering_agree() -> None:
    """OpenCV's filter on the CPU, shifted sums elsewhere."""
    real, generated, _ = pair()
    planes = [frames.flatten(0, 1) for frames in (real, generated)]
    parts = torch.stack([planes[0], planes[1].square()]).flatten(0, 1)
    by_cpu, shifted = torch.zeros_like(parts), torch.zeros_like(parts)
    structural._filter(parts, by_cpu)
    structural._shifted_sums(parts, shifted)
    torch.testing.assert_close(by_cpu[:, 5:-5, 5:-5], shifted[:, 5:-5, 5:-5], atol=1e-6, rtol=0)


def test_any_number_of_threads_gives_the_same() -> None:
    real, generated, _ = pair()
    before = torch.get_num_threads()
    try:
        scores = []
        for threads in (1, 3, 40):
            torch.set_num_threads(threads)
            scores.append(ssim(real, generated))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])


def test_frames_do_not_depend_on_each_other() -> None:
    real, generated, _ = pair()
    torch.testing.assert_close(ssim(real[2:3], generated[2:3]), ssim(real, generated)[2:3], atol=1e-12, rtol=0)
    torch.testing.assert_close(mse(real[2:3], generated[2:3]), mse(real, generated)[2:3], atol=1e-12, rtol=0)


def test_identical_frames_are_capped_at_100_db_and_score_ssim_1() -> None:
    real, generated, _ = pair()
    generated[1:] = real[1:]
    scores = psnr(real, generated)
    assert scores[0] < 40 and scores[1:].tolist() == [100.0] * 5
    np.testing.assert_allclose(ssim(real, real).numpy(), 1.0, atol=1e-7)
    assert psnr_from_mse(torch.tensor([1e-4, 0.99e-10, 1.01e-10, 0.0])).tolist() == pytest.approx(
        [40.0, 100.0, 99.9568, 100.0], abs=1e-4
    )


def test_flicker_sees_change_not_error() -> None:
    real, _, _ = pair()
    real = real * 0.5
    assert flicker(real, real).tolist() == [0.0] * 5
    # a constant error does not flicker
    np.testing.assert_allclose(flicker(real, real + 0.25).numpy(), 0.0, atol=1e-5)
    # an error of one grey level that comes and goes changes by one grey level each frame
    blinking = real + (torch.arange(6) % 2).view(6, 1, 1, 1) / 255
    np.testing.assert_allclose(flicker(real, blinking).numpy(), 1.0, atol=1e-4)
    assert flicker(real[:1], real[:1]).shape == (0,)


def test_wrong_input_is_refused() -> None:
    real, generated, data = pair()
    for wrong in (generated[:3], generated[:, :1], generated[0], data["generated"], generated * 255, generated * 4 - 2):
        with pytest.raises(ValueError, match=r"\[0,1\]|videos"):
            psnr(real, wrong)
    with pytest.raises(ValueError, match="11x11"):
        ssim(real[..., :10], generated[..., :10])


def test_nothing_is_nan_for_black_and_white() -> None:
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert psnr(black, white).tolist() == [0.0]
    assert math.isclose(float(ssim(black, black)), 1.0, abs_tol=1e-7)
    assert 0 < float(ssim(black, white)) < 1e-3
