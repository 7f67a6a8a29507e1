"""The adversarial term, its weight, and how a discriminator learns; a stage without one knows nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from material import make_video_vae
from test_step import draws, pixels, stage
from video_vae import losses
from video_vae.config import Config, Stage, parse_config, slices
from video_vae.config.runs import resolve
from video_vae.distributed.ranks import Ranks
from video_vae.errors import UserError
from video_vae.models import VideoAutoencoderKL
from video_vae.training import adversarial
from video_vae.training.adversarial import Adversary
from video_vae.training.setup import _shaping
from video_vae.training.step import StageLoss

RANKS = Ranks(device=torch.device("cpu"))
ELEMENTS = 3 * 16 * 16
"""Of a frame of `pixels()`."""


class Spy(Adversary):
    """Keep what the term is made of."""

    seen: tuple[Tensor, Tensor, Tensor]

    def against(self, target: Tensor, reconstruction: Tensor, compared: Tensor) -> dict[str, Tensor]:
        """Return what an adversary does."""
        self.seen = target, reconstruction, compared
        return super().against(target, reconstruction, compared)


def judged(train_spatial: bool = True, **changes: Any) -> Stage:
    asked = {"channels": 4, "layers": 2, **changes}
    return stage(steps=10, objective="pixels", train_spatial=train_spatial, discriminator=asked)


def adversary(settings: Stage) -> Spy:
    assert settings.discriminator is not None
    found = Spy(settings.discriminator, settings, 10, 0, RANKS)
    for value in found.net.parameters():
        value.data *= 10  # fresh logits are all but zero
    return found


@pytest.fixture
def vae(tmp_path: Path) -> VideoAutoencoderKL:
    return make_video_vae(tmp_path)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_the_term_pulls_at_the_last_layer_as_equation_7_says(
    vae: VideoAutoencoderKL, kind: str, recomputed: bool
) -> None:
    settings = judged(loss=kind, weight=0.25).model_copy(update={"gradient_checkpointing": recomputed})
    against, layer = adversary(settings), vae.spatial.decoder.conv_out.weight
    loss = StageLoss(vae, settings, spatial_sample=True)
    if recomputed:
        vae.enable_gradient_checkpointing()
    result = loss(pixels(1), False, False, draws(1, 5), against)
    _, reconstruction, compared = against.seen
    logits = against.net(reconstruction)
    wanted = losses.generator_loss(logits, settings.discriminator.loss).mean() if settings.discriminator else logits
    (pull,) = torch.autograd.grad(compared, layer, retain_graph=True)
    (push,) = torch.autograd.grad(wanted, layer, retain_graph=True)
    ratio = pull.norm() / ELEMENTS / (push.norm() + 1e-6)
    torch.testing.assert_close(result["adaptive_weight"], ratio)
    torch.testing.assert_close(result["g_loss"], wanted.detach())
    torch.testing.assert_close(result["adversarial"].detach(), 0.25 * ratio * ELEMENTS * wanted.detach())
    (found,) = torch.autograd.grad(result["adversarial"], layer, retain_graph=True)
    torch.testing.assert_close(found, 0.25 * ratio * ELEMENTS * push, rtol=1e-4, atol=1e-4)
    assert found.norm().item() == pytest.approx(0.25 * pull.norm().item(), rel=1e-2)
    (result["loss"] + result["adversarial"]).backward()
    assert all(value.grad is None and value.requires_grad for value in against.net.parameters())


def test_a_frozen_last_layer_and_a_half_that_is_not_trained_give_the_same_weight(vae: VideoAutoencoderKL) -> None:
    settings = [judged(), judged(train_spatial=False)]
    settings += [given.model_copy(update={"train": (half,)}) for given in settings for half in ("encoder", "decoder")]
    found = []
    for given in settings:
        result = StageLoss(vae, given, spatial_sample=True)(pixels(), False, False, draws(2, 5), adversary(given))
        found.append(result["adaptive_weight"])
    torch.testing.assert_close(torch.stack(found), found[0].expand(len(found)))


def test_the_weight_has_an_end_and_can_be_left_out(vae: VideoAutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    def term(settings: Stage) -> dict[str, Tensor]:
        return dict(
            StageLoss(vae, settings, spatial_sample=True)(pixels(), False, False, draws(2, 5), adversary(settings))
        )

    plain = term(judged(adaptive=False, weight=0.25))
    torch.testing.assert_close(plain["adversarial"], 0.25 * ELEMENTS * plain["g_loss"])
    assert plain["adaptive_weight"] == 1
    monkeypatch.setattr(adversarial, "MOST", 1e-3)
    assert term(judged())["adaptive_weight"].item() == pytest.approx(1e-3)


def test_all_of_a_batch_is_the_mean_over_its_clips(vae: VideoAutoencoderKL) -> None:
    settings = judged()
    loss, data = StageLoss(vae, settings, spatial_sample=False), pixels()
    against = adversary(settings)
    parts: list[dict[str, Tensor]] = []
    gradients: list[list[Tensor]] = []
    for rows, share in ((slice(0, 2), 1.0), (slice(0, 1), 0.5), (slice(1, 2), 0.5)):
        given = draws(2, 5)
        one = type(given)(
            spatial_seeds=given.spatial_seeds[rows],
            temporal_seeds=given.temporal_seeds[rows],
            scored_frames=given.scored_frames[rows],
        )
        result = loss(data[rows], False, False, one, against)
        (result["adversarial"] * share).backward()
        parts.append({**result, **against.learn(share)})
        if len(parts) != 2:  # the gradients of the two halves add up
            nets = (loss.trained().values(), against.net.parameters())
            gradients.append([torch.cat([v.grad.flatten() for v in net if v.grad is not None]) for net in nets])
            vae.zero_grad()
            against.zero_grad()
    assert {*adversarial.FIGURES} < parts[0].keys()
    for name in parts[0]:
        torch.testing.assert_close(parts[0][name], (parts[1][name] + parts[2][name]) / 2)
    for both, halves in zip(*gradients, strict=True):
        assert both.norm() > 0 and (both - halves).norm() < 1e-4 * both.norm()


def test_a_discriminator_learns_to_tell_clips_from_their_reconstructions(vae: VideoAutoencoderKL) -> None:
    settings = judged(learning_rate=1e-2).model_copy(update={"learning_rate": 1e-9})
    loss, against = StageLoss(vae, settings, spatial_sample=True), adversary(settings)
    found = []
    for step in range(1, 21):
        with torch.no_grad():
            reconstruction = vae.reconstruct(pixels())
        against._pair = pixels(), reconstruction
        found.append(against.learn(1.0))
        assert against.step(step, against.gradient_norm()) == 1e-2
        against.zero_grad()
    assert found[-1]["d_loss"] < 0.5 * found[0]["d_loss"]
    assert found[-1]["logits_real"] > 0 > found[-1]["logits_fake"]
    assert all(value.grad is None for value in loss.parameters())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "latents"}, "stages.stage3: discriminator looks at pixels and needs objective: pixels"),
        ({"compile": True}, "stages.stage3: discriminator.adaptive looks at the decoder's last layer, which compile"),
        ({"steps": 5, "discriminator": {"start_step": 5}}, "start_step 5 leaves none of the 5 steps; start it earlier"),
        ({"discriminator": {"weight": 0}}, "stages.stage3.discriminator.weight"),
        ({"discriminator": {"loss": "wasserstein"}}, "stages.stage3.discriminator.loss"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    given = {"objective": "pixels", "train_spatial": False, "discriminator": {}, **changes}
    with pytest.raises(UserError) as error:
        parse_config({"stages": {"stage3": given}})
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_stage_that_ends_before_it_starts_or_a_net_beyond_the_memory_is_refused() -> None:
    given = judged(start_step=3)
    with pytest.raises(UserError, match=r"stages.stage3.discriminator.start_step 3: the stage has 3 steps, none"):
        Adversary.of_stage("stage3", given, 3, 0, RANKS)
    with pytest.raises(UserError, match=r"stages.stage3.discriminator: .* parameters take .* GB"):
        Adversary.of_stage("stage3", judged(channels=8192, layers=8), 10, 0, RANKS)
    made = Adversary.of_stage("stage3", given, 4, 0, RANKS)
    assert made is not None and [made.joins(step) for step in (1, 3, 4)] == [False, False, True]


def test_settings_without_one_are_what_they_were() -> None:
    config = parse_config({"stages": {"stage3": {"discriminator": None}}})
    assert slices.without_defaults(config, Config()) == {}
    assert "discriminator" not in _shaping(stage()) and _shaping(judged())["discriminator"]["channels"] == 4
    asked = parse_config({"experiments": {"gan": {"stages": {"stage3": {"discriminator": {}}}}}})
    runs = resolve(asked)
    text = slices.stage_slice(runs["gan"], "stage3")
    assert text["stages"]["stage3"] == {"discriminator": {}} and "stages" not in slices.stage_slice(config, "stage3")
    assert parse_config(text).stages.stage3 == runs["gan"].stages.stage3 != runs["paper"].stages.stage3
    assert slices.stage_slice(runs["gan"], "stage2") == slices.stage_slice(config, "stage2")
    assert Adversary.of_stage("stage3", stage(), 10, 0, RANKS) is None
