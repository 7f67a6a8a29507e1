"""The full-size temporal VAE against its plain formulation: zero padding on all sides, then the convolution.

Both share the weights and the inputs and give the same output (to 1e-4). FLOP are those of the plain net, counted by
torch; what padding makes needless is not work done. The peak is that of a large matrix product, measured in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import OURS, Call, Options, compare, markdown, ratio, spread
from video_vae.models import TemporalAutoencoderKL
from video_vae.models.blocks import CausalConv3d, StreamState
from video_vae.training.setup import computes_bf16

FRAMES = 17
GEMM = 2048
LARGE = 32
PLAIN = "plain"
PASSES = ("forward", "forward + backward")


def plain_convolution(self: CausalConv3d, x: Tensor, state: StreamState | None = None) -> Tensor:
    """Convolve as the public code does: pad with zeros on every side, then convolve without padding."""
    assert state is None
    side = self.conv.kernel_size[1] // 2
    padded = F.pad(x, (side, side, side, side, max(0, self.history), 0))
    return F.conv3d(padded, self.conv.weight, self.conv.bias, self.conv.stride)


@contextmanager
def plainly() -> Iterator[None]:
    """Run the nets of this block in the plain formulation."""
    with mock.patch.object(CausalConv3d, "forward", plain_convolution):
        yield


def forward(net: TemporalAutoencoderKL, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Encode and decode through the mode."""
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return net.decode(net.encode(x).latent_dist.mode(), x.shape[2]).sample


def train(net: TemporalAutoencoderKL, x: Tensor, dtype: torch.dtype) -> None:
    """Run a forward and a backward pass."""
    forward(net, x, dtype).float().square().mean().backward()
    net.zero_grad()


def count(net: TemporalAutoencoderKL, x: Tensor) -> tuple[float, float]:
    """Count the FLOP of a forward pass, and of one with its backward pass."""
    with plainly(), FlopCounterMode(display=False) as counter:
        result = forward(net, x, torch.float32)
        ahead = counter.get_total_flops()
        result.square().mean().backward()
    net.zero_grad()
    return ahead, counter.get_total_flops()


def difference(net: TemporalAutoencoderKL, x: Tensor) -> float:
    """Return the largest difference of the two formulations, and stop if they are not equal."""
    with torch.no_grad():
        ours = forward(net, x, torch.float32)
        with plainly():
            plain = forward(net, x, torch.float32)
    largest = float((ours - plain).abs().max())
    assert largest < 1e-4, f"the formulations differ by {largest}"
    return largest


def measure(
    net: TemporalAutoencoderKL, x: Tensor, dtype: torch.dtype, backward: bool, rounds: int
) -> dict[str, list[float]]:
    """Time both formulations and a matrix product in turn."""
    factors = [torch.randn(GEMM, GEMM).to(dtype) for _ in range(2)]

    def ours() -> None:
        """Run ours."""
        if backward:
            train(net, x, dtype)
        else:
            with torch.no_grad():
                forward(net, x, dtype)

    def plain() -> None:
        """Run the plain formulation."""
        with plainly():
            ours()

    calls: dict[str, Call] = {PLAIN: plain, OURS: ours, "gemm": lambda: factors[0] @ factors[1]}
    return compare(calls, rounds, warm_up=x.shape[-1] < LARGE)


def run(options: Options, side: int) -> str:
    """Time the points of a size that this processor computes; return the table."""
    torch.manual_seed(0)
    net = TemporalAutoencoderKL(base_channels=32) if options.quick else TemporalAutoencoderKL()
    x = torch.randn(1, 4, FRAMES, side, side)
    largest, flop = difference(net, x), count(net, x)
    bf16 = computes_bf16(torch.device("cpu"))
    rounds = options.rounds if side < LARGE else max(2, options.rounds // 3)
    rows = []
    for dtype in (torch.float32, torch.bfloat16) if bf16 else (torch.float32,):
        for backward in (False, True):
            seconds = measure(net, x, dtype, backward, rounds)
            middle = {name: spread(values)[0] for name, values in seconds.items()}
            peak = 2 * GEMM**3 / middle["gemm"]
            name = f"{str(dtype).removeprefix('torch.')}, {PASSES[backward]}"
            times = [f"{middle[rival]:.2f}" for rival in (PLAIN, OURS)]
            shares = [f"{flop[backward] / middle[rival] / peak:.0%}" for rival in (PLAIN, OURS)]
            rows.append([name, *times, ratio(seconds[PLAIN], seconds[OURS]), f"{peak / 1e9:.0f}", *shares])
    header = ["", "plain, s", "ours, s", "speed-up (quartiles)", "GEMM, GFLOP/s", "plain of GEMM", "ours of GEMM"]
    note = f"\nLargest difference of the outputs: {largest:.1e}.\n"
    if not bf16:
        note += (
            "\nbf16 was left out: this processor has no bf16 arithmetic, and emulating it takes many times longer.\n"
        )
    size = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    title = f"Temporal VAE ({size:.1f} M), {FRAMES} frames of {side}x{side} latents, against the plain formulation"
    return markdown(title, header, rows) + note
