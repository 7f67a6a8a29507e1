"""LPIPS equals the reference and the `lpips` package, by the names of its weights and by its numbers."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import lpips
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import golden
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.metrics import LPIPS, load_lpips
from video_vae.metrics.lpips import NetName


@cache
def reference(net: NetName) -> Any:
    """Make the package's net: its real heads, a backbone that is a function of the names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = lpips.LPIPS(net=net, pnet_rand=True, spatial=True, verbose=False)
    backbone = {f"net.{key}": value for key, value in model.net.state_dict().items()}
    if net == "alex":
        backbone = {key: golden.made(key, value.shape, "lpips") for key, value in backbone.items()}
    model.load_state_dict(model.state_dict() | backbone)
    return model


def pair() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    data = golden.arrays("metrics_bikes_64")
    return data["real"].float() / 255, data["generated"].float() / 255, data


@pytest.mark.parametrize(("spatial", "row"), [(True, "lpips_spatial"), (False, "lpips")])
def test_equal_to_the_reference(spatial: bool, row: str) -> None:
    real, generated, data = pair()
    metric = LPIPS("alex", spatial=spatial)
    metric.load_state_dict(reference("alex").state_dict())
    torch.testing.assert_close(metric(real, generated), data[row].double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(metric(real, generated), data[row].double(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("size", [(64, 64), (49, 75)])
def test_equal_to_the_package(net: NetName, size: tuple[int, int]) -> None:
    real, generated, _ = pair()
    real, generated = (torch.nn.functional.interpolate(frames[:2], size) for frames in (real, generated))
    peer, metric = reference(net), LPIPS(net)
    assert list(metric.state_dict()) == list(peer.state_dict())
    metric.load_state_dict(peer.state_dict())
    with torch.no_grad():
        expected = peer(real, generated, normalize=True).mean(dim=(1, 2, 3)).double()
    torch.testing.assert_close(metric(real, generated), expected, atol=1e-6, rtol=0)


def test_features_of_the_originals_serve_several_comparisons() -> None:
    real, generated, _ = pair()
    metric = LPIPS("alex")
    golden.fill(metric, "lpips")
    features = metric.features(real)
    for other in (generated, generated.flip(0)):
        scores = metric.score(metric.distances(features, metric.features(other)), (64, 64))
        assert torch.equal(scores, metric(real, other))
    assert metric(real, real).tolist() == [0.0] * 6


def test_heads_may_be_named_once_but_nothing_may_be_missing() -> None:
    metric = LPIPS("alex")
    assert {name: list(value.shape) for name, value in metric.state_dict().items() if "lins" not in name} == (
        golden.shapes("flolpips_alex_state_dict")
    )
    state = {name: golden.made(name, shape) for name, shape in golden.shapes("flolpips_alex_state_dict").items()}
    metric.load_state_dict(state)
    assert torch.equal(metric.state_dict()["lins.3.model.1.weight"], state["lin3.model.1.weight"])
    del state["lin3.model.1.weight"]
    with pytest.raises(RuntimeError, match="lin3"):
        metric.load_state_dict(state)


def test_wrong_input_is_refused() -> None:
    real, generated, _ = pair()
    metric = LPIPS("alex")
    with pytest.raises(ValueError, match=r"\[0,1\]"):
        metric(real * 2 - 1, generated * 2 - 1)
    with pytest.raises(ValueError, match="31x31"):
        metric(real[..., :30], generated[..., :30])


def test_weights_come_from_a_folder_and_name_themselves(tmp_path: Path) -> None:
    peer = reference("alex")
    kept = {name: value for name, value in peer.state_dict().items() if not name.startswith(("lins", "scaling"))}
    save_file(kept, tmp_path / "alex.safetensors")
    metric = load_lpips(tmp_path, "alex")
    assert metric.name == f"alex:{sha256_file(tmp_path / 'alex.safetensors')[:8]}"
    for name, value in peer.state_dict().items():
        assert torch.equal(metric.state_dict()[name], value), name
    with pytest.raises(UserError, match="vgg"):
        load_lpips(tmp_path, "vgg")
