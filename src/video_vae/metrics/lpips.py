"""LPIPS (Zhang et al. 2018), version 0.1, on frames in [0,1]; state-dict names of the `lpips` package.

Features of a video can be computed once and compared with several others; maps of the distance are kept for FloLPIPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_vae.metrics.pixel import check_frames

NetName = Literal["alex", "vgg"]
Features = tuple[Tensor, ...]
"""Five layers of features, each (T,C,h,w), of unit length over C."""
EPSILON = 1e-10
MEAN = (-0.030, -0.088, -0.188)
DEVIATION = (0.458, 0.448, 0.450)
CHANNELS: dict[str, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
MIN_SIDE: dict[str, int] = {"alex": 31, "vgg": 16}
"""Smallest side of a frame that the last pooling still takes, in pixels."""


def _slices(layers: Sequence[nn.Module], ends: Sequence[int]) -> nn.Module:
    """Cut a backbone into slices which keep the numbers of their layers in the whole, as torchvision counts them."""
    net, start = nn.Module(), 0
    for number, end in enumerate(ends, 1):
        part = nn.Sequential()
        for index in range(start, end):
            part.add_module(str(index), layers[index])
        net.add_module(f"slice{number}", part)
        start = end
    return net


def _alex() -> nn.Module:
    def pool() -> nn.Module:
        """Make a pooling layer of the backbone."""
        return nn.MaxPool2d(3, 2)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), pool(), nn.Conv2d(64, 192, 5, padding=2)]
    layers += [nn.ReLU(), pool(), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)]
    layers += [nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
    return _slices(layers, (2, 5, 8, 10, 12))


def _vgg() -> nn.Module:
    layers: list[nn.Module] = []
    ends: list[int] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if ends:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        ends.append(len(layers))
    return _slices(layers, ends)


class _Scaling(nn.Module):
    """Take off the mean and divide by the deviation of the images that the backbone was trained on."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(DEVIATION).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise frames (B,3,H,W) in [-1,1]."""
        return (frames - self.shift) / self.scale


class _Head(nn.Module):
    """Weigh the channels of one layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    @property
    def weight(self) -> Tensor:
        """Return the head's weights."""
        return cast(nn.Conv2d, self.model[1]).weight


class LPIPS(nn.Module):
    """Compare two videos frame by frame: `LPIPS(net)(real, generated)` -> (T,), both float (T,3,H,W) in [0,1].

    `net` is `alex` (the metric) or `vgg` (the training loss). With `spatial`, a frame's score is the mean of the map of
    the distance at full resolution, which is what this project reports; without, the sum over layers of mean distances.
    Give it weights before use: `load_state_dict` takes those of `lpips.LPIPS(net=...)`, whether or not they repeat the
    heads under `lins.`; `load_lpips` reads them from a folder.
    """

    def __init__(self, net: NetName = "alex", spatial: bool = True) -> None:
        super().__init__()
        self.kind, self.spatial = net, spatial
        self.name: str = net
        self.sha256: str | None = None
        self.scaling_layer = _Scaling()
        self.net = {"alex": _alex, "vgg": _vgg}[net]()
        heads = [_Head(channels) for channels in CHANNELS[net]]
        for index, head in enumerate(heads):
            self.add_module(f"lin{index}", head)
        self.lins = nn.ModuleList(heads)
        self.register_load_state_dict_pre_hook(_repeat_heads)
        # on a CPU a fifth faster than channels first, and the sums over channels several times
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def features(self, frames: Tensor) -> Features:
        """Return the five layers of features of frames (T,3,H,W) in [0,1].

        Raises:
            ValueError: if the frames are too small for the backbone.
        """
        return self.signed_features(frames.float() * 2.0 - 1.0)

    def signed_features(self, frames: Tensor) -> Features:
        """Return the five layers of features of frames (T,3,H,W) in [-1,1]; gradients reach the frames.

        Raises:
            ValueError: if the frames are too small for the backbone.
        """
        if min(frames.shape[-2:]) < MIN_SIDE[self.kind]:
            side = MIN_SIDE[self.kind]
            raise ValueError(f"LPIPS-{self.kind} needs frames of at least {side}x{side} pixels")
        values = self.scaling_layer(frames.contiguous(memory_format=torch.channels_last))
        layers = []
        for part in self.net.children():
            values = part(values)
            layers.append(values * values.square().sum(dim=1, keepdim=True).sqrt().add(EPSILON).reciprocal())
        return tuple(layers)

    def distances(self, real: Features, generated: Features) -> Features:
        """Return the map of the distance in each layer, (T,1,h,w), not negative."""
        heads: list[_Head] = [head for head in self.lins if isinstance(head, _Head)]
        return tuple(
            functional.conv2d((a - b).square(), head.weight) for a, b, head in zip(real, generated, heads, strict=True)
        )

    def score(self, distances: Features, size: tuple[int, int]) -> Tensor:
        """Reduce maps of the distance to one value per frame, (T,), float64; `size` is that of the frames."""
        if not self.spatial:
            return torch.stack([layer.double().mean(dim=(1, 2, 3)) for layer in distances]).sum(dim=0)
        # The mean of a bilinearly enlarged map is a weighted mean of the map itself: nothing needs enlarging.
        total = torch.zeros(len(distances[0]), dtype=torch.float64, device=distances[0].device)
        for layer in distances:
            rows, columns = (
                _enlarged_mean(*sides).to(layer.device) for sides in zip(layer.shape[-2:], size, strict=True)
            )
            total = total + torch.einsum("thw,h,w->t", layer[:, 0].double(), rows, columns)
        return total

    def forward(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return the distance of each frame, (T,), float64."""
        check_frames(real, generated)
        distances = self.distances(self.features(real), self.features(generated))
        return self.score(distances, (real.shape[-2], real.shape[-1]))


@lru_cache(maxsize=64)
def _enlarged_mean(small: int, large: int) -> Tensor:
    """Return the weight of each of `small` values in the mean of their linear interpolation at `large` points."""
    unit = torch.eye(small, dtype=torch.float64)[:, None]
    return functional.interpolate(unit, size=large, mode="linear", align_corners=False).mean(dim=(1, 2))


def _repeat_heads(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let `lin0` to `lin4` stand for the same heads under `lins.`, which some files repeat and some leave out."""
    for index in range(5):
        repeated, name = f"{prefix}lins.{index}.model.1.weight", f"{prefix}lin{index}.model.1.weight"
        if name in state:
            state[repeated] = state[name]


def load_lpips(folder: str | Path, net: NetName = "alex", spatial: bool = True) -> LPIPS:
    """Return LPIPS with the weights of `folder`/`net`.safetensors; `.name` is `alex:<first 8 digits of the sha256>`.

    Raises:
        UserError: if the file is missing or is not LPIPS.
    """
    from video_vae.files import sha256_file
    from video_vae.weights.lpips import load_lpips_weights

    path = Path(folder) / f"{net}.safetensors"
    metric = LPIPS(net, spatial)
    metric.load_state_dict(load_lpips_weights(Path(folder), net), strict=True)
    metric.sha256 = sha256_file(path)
    metric.name = f"{net}:{metric.sha256[:8]}"
    return metric
