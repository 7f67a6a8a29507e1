"""Everything that a training carries from step to step: weights, optimizer, averages, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from video_vae.config import Stage
from video_vae.distributed.ranks import Ranks
from video_vae.training.checkpoint import optimizer_state, optimizer_tensors
from video_vae.training.ema import WeightAverage
from video_vae.training.muon import Muon
from video_vae.training.schedule import learning_rate


class Optimization:
    """AdamW or Muon, with clipping and schedule, over named parameters, and their running average.

    Args:
        parameters: name -> parameter, the same on all ranks.
        stage: settings.
        total: steps of the stage.
        ranks: share the optimizer's state where the stage says so.
        betas: AdamW's decay of the running averages of the gradient and of its square.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        stage: Stage,
        total: int,
        ranks: Ranks,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.parameters = dict(parameters)
        self.stage = stage
        self.total = total
        self.ranks = ranks
        self.betas = betas
        self.optimizer = self._optimizer()
        self.average = None if stage.ema_decay is None else WeightAverage(self.parameters, stage.ema_decay)

    def _optimizer(self) -> torch.optim.Optimizer:
        settings: dict[str, Any] = {
            "lr": self.stage.learning_rate,
            "betas": self.betas,
            "weight_decay": self.stage.weight_decay,
        }
        if self.stage.optimizer == "muon":
            return Muon(self.parameters.values(), **settings)
        settings["fused"] = True
        if self.stage.shard_optimizer and self.ranks.is_distributed:
            return ZeroRedundancyOptimizer(self.parameters.values(), torch.optim.AdamW, **settings)
        return torch.optim.AdamW(self.parameters.values(), **settings)

    def gradient_norm(self) -> Tensor:
        """Return the norm of the gradient over all parameters."""
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def step(self, step: int, norm: Tensor) -> float:
        """Clip, take the optimizer step and average; return the learning rate used."""
        if self.stage.grad_clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.stage.grad_clip, norm)
        rate = learning_rate(self.stage, step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.average is not None:
            self.average.update(step)
        return rate

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for value in self.parameters.values():
            value.grad = None

    @property
    def is_shared(self) -> bool:
        """Tell whether each rank holds a part of the optimizer's state."""
        return isinstance(self.optimizer, ZeroRedundancyOptimizer)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that this rank saves: the first one all that it has, others their part of the optimizer.

        None but the first one has any where the optimizer is not shared.
        """
        tensors: dict[str, Tensor] = {}
        if self.ranks.is_main:
            tensors |= {f"model.{name}": value.detach() for name, value in self.parameters.items()}
            if self.average is not None:
                tensors |= {f"ema.{name}": value for name, value in self.average.averages.items()}
        if self.ranks.is_main or self.is_shared:
            own = self.optimizer.optim if isinstance(self.optimizer, ZeroRedundancyOptimizer) else self.optimizer
            names = {id(value): name for name, value in self.parameters.items()}
            order = [names[id(value)] for group in own.param_groups for value in group["params"]]
            tensors |= optimizer_tensors(own.state_dict(), order)
        return {name: value.contiguous() for name, value in tensors.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave, of all ranks together; called by all ranks.

        Raises:
            KeyError: if a tensor is missing.
        """
        for name, value in self.parameters.items():
            value.copy_(tensors[f"model.{name}"])
        if self.average is not None:
            self.average.load({name: tensors[f"ema.{name}"] for name in self.parameters})
        names = list(self.parameters)
        group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
        groups = [{**group, "params": list(range(len(names)))}]
        self.optimizer.load_state_dict(optimizer_state(tensors, names, groups))
