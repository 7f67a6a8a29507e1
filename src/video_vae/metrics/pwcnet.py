"""PWC-Net (Sun et al. 2018), optical flow, in pure torch: CPU and GPU, state-dict names of the public weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.1
RADIUS = 4
"""Largest displacement, in pixels of a level, that the cost volume holds."""
VOLUME = (2 * RADIUS + 1) ** 2
FLOW_UNIT = 20.0
"""The net's flow times this is in pixels of its input."""
MULTIPLE = 64
"""The sides of the net's input are multiples of this."""
LEVELS = ("One", "Two", "Thr", "Fou", "Fiv", "Six")
WIDTHS = (16, 32, 64, 96, 128, 196)
DENSE = (128, 128, 96, 64, 32)


def _convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation)


def _activated(*convolutions: nn.Conv2d) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [convolution, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """Correlate each position of `first` with its 9x9 neighbourhood in `second`: (B,C,H,W) twice -> (B,81,H,W).

    The mean over channels of their product; zero outside the frame; displacements run row by row.
    """
    height, width = first.shape[-2:]
    padded = functional.pad(second, (RADIUS,) * 4)
    volume = first.new_empty(len(first), VOLUME, height, width)
    for index in range(VOLUME):
        top, left = divmod(index, 2 * RADIUS + 1)
        shifted = padded[:, :, top : top + height, left : left + width]
        volume[:, index] = (first * shifted).mean(dim=1)
    return volume


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Fetch features (B,C,H,W) from where the flow (B,2,H,W), in pixels, points to; zero where that is outside."""
    height, width = features.shape[-2:]
    across = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=flow.device, dtype=flow.dtype)
    down = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=flow.device, dtype=flow.dtype)
    # The public net was used with these units, half a pixel off those of the grid; its flow is only right with them.
    x = across.view(1, 1, width) + flow[:, 0] / ((width - 1.0) / 2.0)
    y = down.view(1, height, 1) + flow[:, 1] / ((height - 1.0) / 2.0)
    grid = torch.stack([x, y], dim=-1)
    with_ones = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    fetched = functional.grid_sample(with_ones, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return fetched[:, :-1] * (fetched[:, -1:] > 0.999)


class _Extractor(nn.Module):
    """Six levels of features, each half the size of the one before."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for name, width in zip(LEVELS, WIDTHS, strict=True):
            shapes = ((inputs, width, 2), (width, width, 1), (width, width, 1))
            self.add_module(f"net{name}", _activated(*(_convolution(*shape) for shape in shapes)))
            inputs = width

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map frames (B,3,H,W) to features at six levels, each of half the size."""
        features: list[Tensor] = []
        for level in self.children():
            features.append(level(features[-1] if features else frames))
        return features


class _Decoder(nn.Module):
    """One level: correlate, refine the flow of the level below. The coarsest level (6) has none below."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.flow_scale = FLOW_UNIT / 2**level
        inputs = VOLUME
        if level < 6:
            below = VOLUME if level == 5 else VOLUME + WIDTHS[level] + 4
            self.netUpflow = nn.ConvTranspose2d(2, 2, 4, 2, 1)
            self.netUpfeat = nn.ConvTranspose2d(below + sum(DENSE), 2, 4, 2, 1)
            inputs += WIDTHS[level - 1] + 4
        for name, width in zip(LEVELS[:5], DENSE, strict=True):
            self.add_module(f"net{name}", _activated(_convolution(inputs, width)))
            inputs += width
        self.netSix = nn.Sequential(_convolution(inputs, 2))

    def forward(self, first: Tensor, second: Tensor, below: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Refine the flow and features of the level below; return the flow (B,2,h,w) and the features."""
        if below is None:
            features = functional.leaky_relu(cost_volume(first, second), SLOPE)
        else:
            flow, coarse = self.netUpflow(below[0]), self.netUpfeat(below[1])
            volume = cost_volume(first, warp(second, flow * self.flow_scale))
            features = torch.cat([functional.leaky_relu(volume, SLOPE), first, flow, coarse], dim=1)
        for name in LEVELS[:5]:
            features = torch.cat([self.get_submodule(f"net{name}")(features), features], dim=1)
        return self.netSix(features), features


class _Refiner(nn.Module):
    """Context net: dilated convolutions over the finest level's features."""

    def __init__(self) -> None:
        super().__init__()
        widths, dilations = (565, 128, 128, 128, 96, 64, 32), (1, 2, 4, 8, 16, 1)
        shapes = zip(widths, widths[1:], dilations, strict=False)
        layers = _activated(*(_convolution(a, b, dilation=dilation) for a, b, dilation in shapes))
        self.netMain = nn.Sequential(*layers, _convolution(widths[-1], 2))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B,C,h,w) to a correction of the flow, (B,2,h,w)."""
        refined: Tensor = self.netMain(features)
        return refined


class PWCNet(nn.Module):
    """Estimate optical flow: `PWCNet()(first, second)` -> (B,2,H,W) in pixels, x then y; both (B,3,H,W) RGB in [0,1].

    The flow points from a pixel of `first` to its place in `second`. Give it weights with `load_state_dict` (names as
    in the public files, with `module` written `net`) or through `flow.load_flow`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "pwcnet"
        self.netExtractor = _Extractor()
        for level in range(2, 7):
            self.add_module(f"net{LEVELS[level - 1]}", _Decoder(level))
        self.netRefiner = _Refiner()
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of each pair, (B,2,H,W) in pixels; sides are resized to multiples of 64 inside."""
        height, width = first.shape[-2:]
        size = tuple(-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
        pair = torch.cat([first, second]).float()
        pair = functional.interpolate(pair, size=size, mode="bilinear", align_corners=False)
        flow = self._flow(self.netExtractor(pair)) * FLOW_UNIT
        flow = functional.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)

    def _flow(self, levels: list[Tensor]) -> Tensor:
        flow, features = self.get_submodule("netSix")(*levels[5].chunk(2), None)
        for level in range(5, 1, -1):
            decoder = self.get_submodule(f"net{LEVELS[level - 1]}")
            flow, features = decoder(*levels[level - 1].chunk(2), (flow, features))
        refined: Tensor = flow + self.netRefiner(features)
        return refined
