"""Building blocks of the temporal VAE: causal in time, "same" in space (MAGVIT-v2, section 3.2).

Every block takes (B, C, T, H, W). A ``StreamState`` carries the last input frames of each convolution from one chunk
of a stream to the next; without one, ``pad_start`` says what was before the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

StreamState = dict[nn.Module, Tensor]
PAD_MODES = ("constant", "replicate")


@dataclass(frozen=True)
class Options:
    """What the layers of a net have in common."""

    groups: int
    """Groups of the group norms."""
    scope: str
    """What the norms pool over: `clip` or `frame`."""
    pad_mode: str
    """What is before the first frame: see `pad_start`."""


def pad_start(x: Tensor, frames: int, mode: str) -> Tensor:
    """Put so many frames before the first of (B, C, T, H, W), T >= 1.

    Args:
        x: frames.
        frames: how many.
        mode: `constant` takes zeros, as the published net, `replicate` the first frame.
    """
    if mode == "constant":
        return F.pad(x, (0, 0, 0, 0, frames, 0))
    return torch.cat((x[:, :, :1].expand(-1, -1, frames, -1, -1), x), dim=2)


def as_weights(x: Tensor, weight: Tensor) -> Tensor:
    """Cast an input to the dtype of the weights, except under autocast, which casts itself."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """Cast half precision (bf16, fp16) to fp32 for sums and products that need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class CausalConv3d(nn.Module):
    """Convolve so that no output frame depends on a later input frame.

    The spatial zero padding is left to the convolution; only the frames before the first are put in front.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = True,
        pad_mode: str = "constant",
    ) -> None:
        super().__init__()
        side = kernel // 2
        self.conv = nn.Conv3d(
            in_channels, out_channels, kernel, stride=(stride, 1, 1), padding=(0, side, side), bias=bias
        )
        self.history = kernel - stride
        self.pad_mode = pad_mode

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Map (B, C, T, H, W) to (B, out, T / stride, H, W)."""
        if self.history <= 0:
            return self.conv(x)
        before = None if state is None else state.get(self)
        x = pad_start(x, self.history, self.pad_mode) if before is None else torch.cat((before, x), dim=2)
        if state is not None:
            state[self] = x[:, :, -self.history :].clone()
        return self.conv(x)


class Norm(nn.GroupNorm):
    """Normalise groups of channels in fp32, over the whole clip or over each frame.

    With ``scope="frame"`` the statistics of a frame see that frame alone, which keeps the net strictly causal.
    """

    def __init__(self, groups: int, channels: int, scope: str) -> None:
        super().__init__(groups, channels, eps=1e-5)
        self.scope = scope

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to the same shape and dtype."""
        with torch.autocast(x.device.type, enabled=False):
            if self.scope == "clip":
                return self._normalise(x.float()).to(x.dtype)
            frames = x.float().transpose(1, 2)
            flat = self._normalise(frames.flatten(0, 1))
            return flat.unflatten(0, frames.shape[:2]).transpose(1, 2).to(x.dtype)

    def _normalise(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight.float(), self.bias.float(), self.eps)


class ResBlock(nn.Module):
    """Add two normalised, SiLU-activated causal convolutions to the input (projected where channels change)."""

    def __init__(self, in_channels: int, out_channels: int, options: Options) -> None:
        super().__init__()
        self.norm1 = Norm(options.groups, in_channels, options.scope)
        self.conv1 = CausalConv3d(in_channels, out_channels, bias=False, pad_mode=options.pad_mode)
        self.norm2 = Norm(options.groups, out_channels, options.scope)
        self.conv2 = CausalConv3d(out_channels, out_channels, bias=False, pad_mode=options.pad_mode)
        self.conv3 = (
            CausalConv3d(in_channels, out_channels, kernel=1, bias=False) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Map (B, in, T, H, W) to (B, out, T, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)), state)
        h = self.conv2(F.silu(self.norm2(h)), state)
        return h + (x if self.conv3 is None else self.conv3(x))


class TimeDownsample(CausalConv3d):
    """Halve the frame rate: a causal convolution with temporal stride 2."""

    def __init__(self, channels: int, pad_mode: str) -> None:
        super().__init__(channels, channels, stride=2, pad_mode=pad_mode)


class TimeUpsample(CausalConv3d):
    """Double the frame rate: a causal convolution to twice the channels, then depth to time."""

    def __init__(self, channels: int, pad_mode: str) -> None:
        super().__init__(channels, 2 * channels, pad_mode=pad_mode)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Map (B, C, T, H, W) to (B, C, 2T, H, W); a channel's two frames lie side by side."""
        pairs = super().forward(x, state).unflatten(1, (-1, 2))
        return pairs.transpose(2, 3).flatten(2, 3)
