"""The discriminator and its losses: what blur pooling computes, what a logit sees, and gradients by differences."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from video_vae import losses
from video_vae.config import AdversarialLoss
from video_vae.models.discriminator import PatchDiscriminator, blur_pool

KINDS: tuple[AdversarialLoss, ...] = get_args(AdversarialLoss)


def fresh(channels: int = 8, layers: int = 2, recompute: bool = False, seed: int = 0) -> PatchDiscriminator:
    net = PatchDiscriminator(channels, layers, recompute)
    net.start(torch.Generator().manual_seed(seed))
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("shape", [(5, 8, 6), (4, 7, 9), (1, 2, 1)])
def test_blur_pooling_is_a_direct_convolution_and_every_second_place(shape: tuple[int, int, int]) -> None:
    x = noise(2, 3, *shape).double()
    row = np.array([1.0, 2.0, 1.0]) / 4
    kernel = row[:, None, None] * row[:, None] * row
    wanted = [[ndimage.correlate(part, kernel, mode="nearest")[::2, ::2, ::2] for part in clip] for clip in x.numpy()]
    found = blur_pool(x)
    assert found.shape[2:] == tuple(-(-size // 2) for size in shape)
    torch.testing.assert_close(found, torch.from_numpy(np.array(wanted)))


def test_blur_pooling_keeps_what_is_even_and_drops_what_the_new_grid_cannot_hold() -> None:
    even = torch.full((1, 1, 5, 6, 7), 0.3)
    torch.testing.assert_close(blur_pool(even), torch.full((1, 1, 3, 3, 4), 0.3))
    stripes = torch.tensor([1.0, -1.0] * 4).expand(1, 1, 1, 1, 8)
    assert stripes[..., ::2].abs().min() == 1  # what a stride alone makes of them
    assert blur_pool(stripes)[..., 1:].abs().max() == 0


@pytest.mark.parametrize("size", [(17, 32, 24), (1, 8, 9), (33, 1, 1)])
def test_clips_of_any_size_have_a_logit_for_each_patch(size: tuple[int, int, int]) -> None:
    assert fresh(layers=3)(noise(2, 3, *size)).shape == (2, 1, *(-(-side // 8) for side in size))


def test_a_logit_sees_45_pixels_and_frames() -> None:
    net = fresh(layers=3)
    for layer in net.layers:
        layer.norm = nn.Identity()  # a norm sees the whole clip
    for dim, size in enumerate([(65, 8, 8), (2, 65, 8), (2, 8, 65)], start=2):
        x = noise(1, 3, *size).requires_grad_()
        net(x).movedim(dim, 0)[4].sum().backward()
        assert x.grad is not None
        seen = x.grad.abs().movedim(dim, 0).flatten(1).sum(dim=1).nonzero().flatten()
        assert (seen.min().item(), seen.max().item()) == (32 - 22, 32 + 22)


def test_a_clip_is_judged_alone_and_with_the_same_weights_by_the_same_seed() -> None:
    net, x = fresh(), noise(2, 3, 5, 16, 16)
    both = net(x)
    torch.testing.assert_close(both, torch.cat([net(x[:1]), net(x[1:])]))
    assert torch.equal(fresh()(x), both) and not torch.equal(fresh(seed=1)(x), both)
    assert sum(value.numel() for value in PatchDiscriminator().parameters()) == 282_945


def test_recomputed_activations_give_the_same_gradients() -> None:
    nets = [fresh(recompute=recompute) for recompute in (False, True)]
    found = []
    for net in nets:
        x = noise(1, 3, 5, 16, 16).requires_grad_()
        net(x).square().sum().backward()
        found.append([x.grad, *(value.grad for value in net.parameters())])
    for first, second in zip(*found, strict=True):
        assert first is not None and second is not None and torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: AdversarialLoss) -> None:
    # Seeds with no activation so near to the bend of a ReLU that a difference would step over it.
    net, real = fresh(channels=2).double(), noise(2, 3, 3, 5, 4, seed=3).double()
    fake = noise(2, 3, 3, 5, 4, seed=2).double().requires_grad_()
    scale = 20.0  # fresh logits are all but zero, where hinge loss is a straight line

    def generator(fake: Tensor) -> Tensor:
        return losses.generator_loss(net(fake) * scale, kind)

    names = [name for name, _ in net.named_parameters()]

    def discriminator(*weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        pairs = ((real, True), (fake.detach(), False))
        logits = [(torch.func.functional_call(net, given, (x,)) * scale, truth) for x, truth in pairs]
        return torch.cat([losses.discriminator_loss(found, truth, kind) for found, truth in logits])

    assert torch.autograd.gradcheck(blur_pool, (fake,), fast_mode=True)
    assert torch.autograd.gradcheck(generator, (fake,))
    assert torch.autograd.gradcheck(discriminator, tuple(net.parameters()), fast_mode=True)


def test_losses_are_those_of_the_formulas() -> None:
    logits = torch.tensor([[-2.0, 0.5], [0.0, 3.0]]).view(2, 1, 1, 1, 2)
    hinge = losses.generator_loss(logits, "hinge"), losses.discriminator_loss(logits, True, "hinge")
    torch.testing.assert_close(torch.stack(hinge), torch.tensor([[0.75, -1.5], [(3 + 0.5) / 2, 0.5]]))
    torch.testing.assert_close(losses.discriminator_loss(logits, False, "hinge"), torch.tensor([0.75, 2.5]))
    soft = losses.generator_loss(logits, "non_saturating")
    wanted = [
        (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-0.5))) / 2,
        (math.log(2) + math.log1p(math.exp(-3))) / 2,
    ]
    torch.testing.assert_close(soft, torch.tensor(wanted))
    torch.testing.assert_close(losses.discriminator_loss(logits, True, "non_saturating"), soft)
    torch.testing.assert_close(losses.discriminator_loss(-logits, False, "non_saturating"), soft)
    assert losses.generator_loss(logits.bfloat16(), "hinge").dtype == torch.float32


@pytest.mark.parametrize("frames", [1, 2])
def test_images_have_the_gradients_of_fp32_in_bf16(frames: int) -> None:
    net = PatchDiscriminator(channels=8)
    net.start(torch.Generator().manual_seed(0))
    clips = torch.randn(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for enabled in (False, True, True, True):
        spoilt = [torch.full((2**size,), torch.nan) for size in range(6, 18)]  # what is not written is then seen
        del spoilt
        shown = clips.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = net(shown)
        logits.float().sum().backward()
        assert shown.grad is not None
        gradients.append(shown.grad)
    exact, *rounded = gradients
    for gradient in rounded:
        assert (gradient - exact).abs().max() < 0.1 * exact.abs().max()
