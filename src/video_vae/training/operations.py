"""Count what a step computes, and what share of the device's peak that is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from video_vae.training.step import Draws, StageLoss

PEAKS = {
    "A100": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
    "H100": {"bf16": 989.0, "tf32": 494.0, "fp32": 67.0},
    "H200": {"bf16": 989.0, "tf32": 494.0, "fp32": 67.0},
}
"""Dense peak of a GPU (SXM boards) by precision of the products, as its maker states it, in TFLOP/s."""


def count_operations(loss: StageLoss, data: Tensor, latents: bool, images: bool, draws: Draws) -> int:
    """Count the operations of a forward and backward pass, by torch's counter.

    A multiplication with its addition counts as two. Convolutions, matrix products and attention are counted; the
    rest is left out, and so is a discriminator. Nothing is computed, and weights and gradients stay as they are.
    Recomputed activations count.

    Args:
        loss: the stage's nets and losses.
        data: what the pass takes, see `StageLoss.forward`; only its shape matters.
        latents: `data` are moments.
        images: the clips are single images.
        draws: noise and scored frames.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    held = dict(loss.named_parameters()) | dict(loss.named_buffers())
    with fake, torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        state = {
            name: torch.empty(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
            for name, value in held.items()
        }
        taken = torch.empty(data.shape, dtype=data.dtype)
        functional_call(loss, state, (taken, latents, images, draws))["loss"].backward()
    return counter.get_total_flops()


class Speedometer:
    """Turn the time of a step into TFLOP/s per rank; each shape is counted once."""

    def __init__(self, loss: StageLoss, device: torch.device) -> None:
        self._loss = loss
        self._counts: dict[tuple[object, ...], int] = {}
        self._peak = peak(torch.cuda.get_device_name(device), loss.stage.precision) if device.type == "cuda" else None

    def read(self, data: Tensor, latents: bool, images: bool, draws: Draws, seconds: float) -> dict[str, float]:
        """Return `tflop_per_s`, and `peak_share` on a GPU that is known, of a step of one rank.

        Args:
            data: the clips of the rank's step.
            latents: `data` are moments.
            images: the clips are single images.
            draws: noise and scored frames of these clips.
            seconds: how long the step took.
        """
        key = (tuple(data.shape), latents, images)
        if key not in self._counts:
            self._counts[key] = count_operations(self._loss, data, latents, images, draws)
        rate = self._counts[key] / 1e12 / max(1e-9, seconds)
        return {"tflop_per_s": rate} | ({} if self._peak is None else {"peak_share": rate / self._peak})


def peak(name: str, precision: str) -> float | None:
    """Return the peak of a GPU in TFLOP/s by the name that its driver gives; None where it is not known."""
    return next((peaks[precision] for card, peaks in PEAKS.items() if card in name), None)
