"""Muon: what an update looks like, and that it goes down where AdamW's learning rate does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from video_vae.config import Stage, parse_config
from video_vae.distributed.ranks import Ranks
from video_vae.errors import UserError
from video_vae.training.muon import Muon, is_matrix, orthogonal
from video_vae.training.optimization import Optimization


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (16, 16)])
def test_an_update_keeps_directions_and_evens_out_their_sizes(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    given = u @ torch.diag(torch.logspace(0, -2, 16)) @ v
    found = u.T @ orthogonal(given) @ v.T
    assert (found - torch.diag(found.diagonal())).abs().max() < 1e-3
    assert found.diagonal().min() > 0.6 and found.diagonal().max() < 1.3


def test_biases_and_the_outer_convolutions_are_no_matrices() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Conv2d(8, 3, 3))
    assert [is_matrix(value) for value in net.parameters()] == [False, False, True, False, False, False]


def test_what_is_no_matrix_is_updated_as_adamw_does() -> None:
    first, second = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    rivals = Muon([first], **settings), torch.optim.AdamW([second], **settings)
    for _ in range(5):
        for value, optimizer in zip((first, second), rivals, strict=True):
            value.grad = 2 * value.detach() + 0.3
            optimizer.step()
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_a_matrix_comes_to_its_target() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(16, 16), nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], lr=0.2)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        weight.grad = weight.detach() - target
        optimizer.step()
    assert (weight - target).abs().max() < 0.05


def test_a_stage_takes_the_optimizer_that_its_settings_name() -> None:
    weight, ranks = {"weight": nn.Parameter(torch.eye(8))}, Ranks(device=torch.device("cpu"))
    kinds = [
        type(Optimization(weight, Stage(steps=1, optimizer=name), 1, ranks).optimizer) for name in ("adamw", "muon")
    ]
    assert kinds == [torch.optim.AdamW, Muon]
    with pytest.raises(UserError, match=r"stages\.stage2.*shard_optimizer shares the state of AdamW"):
        parse_config({"stages": {"stage2": {"optimizer": "muon", "shard_optimizer": True}}})
