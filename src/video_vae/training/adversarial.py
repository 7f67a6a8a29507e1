"""The adversarial part of a stage on pixels: a discriminator, what it adds to the loss, and how it learns itself.

Both nets take their step from the same forward pass, each against the other as it was before the step. The weight of
the adversarial loss follows Esser et al. 2021 (VQGAN), equation 7. The report trains without a discriminator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from video_vae import losses
from video_vae.config import Discriminator, Stage
from video_vae.distributed.ranks import Ranks
from video_vae.errors import UserError
from video_vae.models.discriminator import PatchDiscriminator
from video_vae.training.optimization import Optimization
from video_vae.training.plan import draw
from video_vae.training.speed import autocast
from video_vae.weights.loading import check_fits

DISCRIMINATOR = "discriminator"
"""Event of its lines in the log."""
ADVERSARIAL = "adversarial"
FIGURES = (ADVERSARIAL, "g_loss", "d_loss", "adaptive_weight", "logits_real", "logits_fake")
"""What these have, means over the global batch: the term as it is added to the loss; the unweighted losses of the
video VAE and of the discriminator; the weight of equation 7; mean logits of real clips and of reconstructions."""
PREFIX = f"{DISCRIMINATOR}."
"""Of its tensors in a checkpoint."""
BETAS = (0.5, 0.9)
"""AdamW's decays, as in VQGAN's published training."""
DELTA = 1e-6
"""Keeps equation 7 finite (Esser et al. 2021)."""
MOST = 1e4
"""Largest weight of equation 7, as in VQGAN's published training."""


class _Carried(torch.autograd.Function):
    """A value whose gradient with respect to a tensor is known already, so that its own graph is gone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of `x`."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None


class Adversary:
    """A discriminator with its optimizer; no part of the net that is wrapped for several ranks.

    Args:
        settings: of the discriminator.
        stage: settings of the stage; its precision, schedule and clipping hold for the discriminator, too.
        total: steps of the stage.
        seed: of its fresh weights.
        ranks: this process among all.
    """

    def __init__(self, settings: Discriminator, stage: Stage, total: int, seed: int, ranks: Ranks) -> None:
        self.settings, self.stage, self.ranks = settings, stage, ranks
        self.net = PatchDiscriminator(settings.channels, settings.layers, recompute=stage.gradient_checkpointing)
        self.net.start(torch.Generator().manual_seed(seed))
        self.net.to(ranks.device)
        own = {
            "optimizer": "adamw",
            "learning_rate": settings.learning_rate,
            "weight_decay": 0.0,
            "ema_decay": None,
            "shard_optimizer": False,
        }
        parameters = dict(self.net.named_parameters())
        self.optimization = Optimization(parameters, stage.model_copy(update=own), total, ranks, BETAS)
        self._pair: tuple[Tensor, Tensor] | None = None
        self._seen: tuple[nn.Conv2d, Tensor] | None = None

    @classmethod
    def of_stage(cls, name: str, stage: Stage, steps: int, seed: int, ranks: Ranks) -> Adversary | None:
        """Return the discriminator that a stage is trained with, None where it is trained without.

        Raises:
            UserError: if the stage ends before the discriminator joins, or it does not fit into memory.
        """
        settings, key = stage.discriminator, f"stages.{name}.discriminator"
        if settings is None:
            return None
        if settings.start_step >= steps:
            raise UserError(
                f"{key}.start_step {settings.start_step}: the stage has {steps} steps, none of them with the "
                "discriminator; start it earlier, or set it to null"
            )
        check_fits(lambda: PatchDiscriminator(settings.channels, settings.layers), key)
        return cls(settings, stage, steps, draw(seed, name, "discriminator"), ranks)

    @property
    def parameters(self) -> int:
        """Return how many parameters the discriminator has."""
        return sum(value.numel() for value in self.net.parameters())

    def joins(self, step: int) -> bool:
        """Tell whether the discriminator takes part in a step (counted from 1)."""
        return step > self.settings.start_step

    @contextmanager
    def watching(self, layer: nn.Conv2d) -> Iterator[None]:
        """See what the decoder's last layer is given while frames are decoded; `against` needs it."""

        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            """Keep the input."""
            self._seen = layer, given[0].detach()

        hook = layer.register_forward_pre_hook(note)
        try:
            yield
        finally:
            hook.remove()

    def against(self, target: Tensor, reconstruction: Tensor, compared: Tensor) -> dict[str, Tensor]:
        """Return the adversarial term to add to the loss of some clips, and figures without gradients.

        The term is weight * lambda * 3HW * g_loss, averaged over the clips; like LPIPS', its weight is one against the
        mean absolute error at any size. Each clip has a lambda of its own, so that batching changes nothing.

        Args:
            target: clips (B,3,T,H,W) in [-1,1].
            reconstruction: of the same shape, with its graph.
            compared: the weighted losses that compare them, averaged over the clips: equation 7's.
        """
        self._pair = target, reconstruction.detach()
        shown = reconstruction.detach().requires_grad_()
        with self._frozen():
            with autocast(self.stage, target.device):
                logits = self.net(shown)
            each = losses.generator_loss(logits, self.settings.loss)
            (towards,) = torch.autograd.grad(each.sum(), shown)
        each, elements = each.detach(), target[0, :, 0].numel()
        scale = torch.ones_like(each)
        if self.settings.adaptive:
            (pull,) = torch.autograd.grad(compared, reconstruction, retain_graph=True)
            scale = self._ratios(pull * (len(each) / elements), towards)
        self._seen = None
        factor = self.settings.weight * elements * scale
        gradient = towards * (factor / len(each)).view(-1, 1, 1, 1, 1).to(towards.dtype)
        term = _Carried.apply(reconstruction, gradient, (factor * each).mean())
        return {ADVERSARIAL: term, "g_loss": each.mean(), "adaptive_weight": scale.mean()}

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Keep no graph of the discriminator's own weights for a while."""
        self.net.requires_grad_(False)
        try:
            yield
        finally:
            self.net.requires_grad_(True)

    def _ratios(self, first: Tensor, second: Tensor) -> Tensor:
        """Return equation 7 of each clip, from the gradients of both losses with respect to the frames (B,3,T,H,W)."""
        norms = [
            torch.stack([self._norm(row, gradient) for row in range(len(gradient))]) for gradient in (first, second)
        ]
        return (norms[0] / (norms[1] + DELTA)).clamp(max=MOST)

    def _norm(self, row: int, gradient: Tensor) -> Tensor:
        """Return the norm of a clip's gradient with respect to the last layer's weights, from that of its frames.

        It is taken by hand: the layer may be frozen, and nothing of the graph behind it is gone through.
        """
        if self._seen is None:
            raise RuntimeError("the decoder was not watched")
        layer, given = self._seen
        outer = gradient[row].transpose(0, 1)
        inner = given[row * len(outer) : (row + 1) * len(outer)].to(outer.dtype)
        shape = list(layer.weight.shape)
        found = conv2d_weight(inner, shape, outer, stride=layer.stride, padding=layer.padding)
        return found.float().norm()

    def learn(self, share: float) -> dict[str, Tensor]:
        """Add to the discriminator's gradients those of the clips that `against` saw last; return the figures.

        Args:
            share: of these clips among those of the rank's step.
        """
        if self._pair is None:
            raise RuntimeError("there is nothing to learn from")
        found: dict[str, Tensor] = {"d_loss": torch.zeros((), device=self.ranks.device)}
        for name, real, clips in zip(("logits_real", "logits_fake"), (True, False), self._pair, strict=True):
            with autocast(self.stage, clips.device):
                logits = self.net(clips)
            loss = losses.discriminator_loss(logits, real, self.settings.loss).mean() / 2
            (loss * share).backward()
            found["d_loss"] += loss.detach()
            found[name] = logits.detach().float().mean()
        self._pair = None
        return found

    def gradient_norm(self) -> Tensor:
        """Average the gradients over the ranks; return their norm. Called once in a step, by all ranks."""
        self.ranks.average([value.grad for value in self.net.parameters() if value.grad is not None])
        return self.optimization.gradient_norm()

    def step(self, step: int, norm: Tensor) -> float:
        """Clip and take the optimizer step; return the learning rate used."""
        return self.optimization.step(step, norm)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.optimization.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Return the tensors to save, on the first rank."""
        return {f"{PREFIX}{name}": value for name, value in self.optimization.state().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave; called by all ranks.

        Raises:
            KeyError: if a tensor is missing.
        """
        own = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        self.optimization.load(own)
