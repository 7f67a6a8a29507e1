"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal, with AdamW for all that is no matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

ITERATIONS = 5
"""Of Newton and Schulz; singular values then lie near 1."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial of an iteration: steepest at zero, as Muon's authors give them."""
SMALLEST = 8
"""Rows or columns below which a matrix is left to AdamW: the first and the last layers of a net."""
MATCHED = 0.2
"""Root mean square of AdamW's usual updates, which the orthogonal ones are scaled to, so that one rate serves both."""


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix (rows, columns) of nearly the same singular vectors, with singular values near 1.

    The iterations run on the products of the shorter side with itself: the long side enters twice, not ten times.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    unit = torch.eye(len(x), dtype=x.dtype, device=x.device)
    gram, whole = x @ x.T, unit
    for _ in range(ITERATIONS):
        factor = a * unit + b * gram + c * gram @ gram
        whole = factor @ whole
        gram = factor @ gram @ factor
    x = whole @ x
    return x.T if tall else x


def is_matrix(parameter: Tensor) -> bool:
    """Tell whether a weight is updated as a matrix: of a convolution or linear layer that is not tiny."""
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel(), parameter.shape[1]) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Update convolutions by orthogonal momentum and everything else as AdamW does, at one learning rate.

    Args:
        parameters: the parameters.
        lr: learning rate.
        betas: AdamW's decays; matrices take `momentum` instead.
        momentum: decay of the matrices' momentum (Nesterov's form).
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients there are."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                    update = self._matrix if is_matrix(parameter) else self._vector
                    update(parameter, parameter.grad, group)

    def _matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1.0 - group["momentum"])
        matrix = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        scale = MATCHED * math.sqrt(max(matrix.shape))
        parameter.add_(orthogonal(matrix).view(parameter.shape), alpha=-group["lr"] * scale)

    def _vector(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        first, second = group["betas"]
        state["exp_avg"].lerp_(gradient, 1.0 - first)
        state["exp_avg_sq"].lerp_(gradient.square(), 1.0 - second)
        count = float(state["step"])
        root = (state["exp_avg_sq"] / (1.0 - second**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["exp_avg"], root, value=-group["lr"] / (1.0 - first**count))
