"""FloLPIPS equals the reference, and is 0, never NaN, where there is nothing to tell apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import golden
from video_vae.metrics import DIS, LPIPS, FloLPIPS, PWCNet
from video_vae.metrics.flolpips import weighted_distance


def pair() -> tuple[Tensor, Tensor, Tensor]:
    data = golden.arrays("metrics_bikes_64")
    return data["real"].float() / 255, data["generated"].float() / 255, data["flolpips"].double()


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    metric = LPIPS("alex")
    golden.fill(metric, "lpips", keep=("scaling_layer.shift", "scaling_layer.scale"))
    state = {name: value.abs() if name.startswith("lin") else value for name, value in metric.state_dict().items()}
    metric.load_state_dict({name: value for name, value in state.items() if not name.startswith("lins")})
    return metric


@pytest.fixture(scope="module")
def pwcnet() -> PWCNet:
    net = PWCNet()
    golden.fill(net, "pwc")
    return net


def test_equal_to_the_reference(lpips: LPIPS, pwcnet: PWCNet) -> None:
    real, generated, expected = pair()
    torch.testing.assert_close(FloLPIPS(lpips, pwcnet)(real, generated), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(FloLPIPS(lpips, pwcnet)(real, generated), expected, atol=1e-6, rtol=0)


def test_identical_videos_score_zero_with_every_flow(lpips: LPIPS, pwcnet: PWCNet) -> None:
    real, _, _ = pair()
    for flow in (DIS(), pwcnet):
        assert FloLPIPS(lpips, flow)(real, real).tolist() == [0.0] * 5
    still = real[:1].expand(4, -1, -1, -1)
    assert FloLPIPS(lpips, DIS())(still, still).tolist() == [0.0] * 3


def test_same_motion_weighs_every_place_alike(lpips: LPIPS) -> None:
    real, generated, _ = pair()
    still_real, still_generated = (frames[:1].expand(3, -1, -1, -1) for frames in (real, generated))
    scores = FloLPIPS(lpips, DIS())(still_real, still_generated)
    layers = lpips.distances(lpips.features(real[:1]), lpips.features(generated[:1]))
    expected = sum(float(layer.double().mean()) for layer in layers)
    assert scores.tolist() == pytest.approx([expected] * 2, rel=1e-6) and expected > 0


def test_weight_lies_where_the_motion_is_off() -> None:
    distance = torch.zeros(1, 1, 4, 4)
    distance[0, 0, 0, 0] = 1.0
    flow = torch.zeros(1, 2, 4, 4)
    there, elsewhere = flow.clone(), flow.clone()
    there[0, :, 0, 0] = 3.0
    elsewhere[0, :, 3, 3] = 3.0
    assert weighted_distance((distance,), flow, there).tolist() == [1.0]
    assert weighted_distance((distance,), flow, elsewhere).tolist() == [0.0]
    assert weighted_distance((distance,), flow, flow).tolist() == [1 / 16]
    # a minute difference of motion is still a distribution of weights
    assert weighted_distance((distance,), flow, there * 1e-30).tolist() == [1.0]


def test_one_frame_has_no_pair(lpips: LPIPS) -> None:
    real, generated, _ = pair()
    assert FloLPIPS(lpips, DIS())(real[:1], generated[:1]).shape == (0,)
