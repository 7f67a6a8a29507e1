"""The networks that the chosen metrics need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from video_vae.config import Metric
from video_vae.config.types import FLOW_METRICS, VMAF_MIN_SIDE
from video_vae.data.transform import Frames
from video_vae.errors import UserError
from video_vae.metrics.flow import DIS, DIS_MIN_SIDE, Flow
from video_vae.metrics.lpips import LPIPS, MIN_SIDE, NetName, load_lpips
from video_vae.metrics.structural import WINDOW
from video_vae.metrics.vmaf import VMAF

METRICS: tuple[Metric, ...] = get_args(Metric)
NETS: Mapping[str, NetName] = {"lpips": "alex", "flolpips": "alex", "lpips_vgg": "vgg"}
"""The LPIPS net that a metric needs."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What scoring works with: the chosen metrics, their networks and no others, and the device."""

    metrics: tuple[Metric, ...]
    nets: Mapping[NetName, LPIPS]
    flow: Flow | None
    vmaf: VMAF | None
    device: torch.device

    @classmethod
    def load(cls, metrics: Sequence[Metric], lpips: Path, flow: Callable[[], Flow], device: torch.device) -> Tools:
        """Load what the metrics need: LPIPS from the folder `lpips`, optical flow by calling `flow`.

        Raises:
            UserError: if weights are missing or wrong.
        """
        chosen = tuple(metric for metric in METRICS if metric in metrics)
        names = dict.fromkeys(NETS[metric] for metric in chosen if metric in NETS)
        nets: dict[NetName, LPIPS] = {net: load_lpips(lpips, net) for net in names}
        for net in nets.values():
            net.to(device)
        estimator = flow() if any(metric in FLOW_METRICS for metric in chosen) else None
        if isinstance(estimator, torch.nn.Module):
            estimator.to(device)
        vmaf = VMAF().to(device) if "vmaf" in chosen else None
        return cls(metrics=chosen, nets=nets, flow=estimator, vmaf=vmaf, device=device)

    def check_size(self, height: int, width: int) -> None:
        """Refuse frames that are too small for a metric.

        Raises:
            UserError: naming the metric and the size that it needs.
        """
        needs = {"ssim": WINDOW, "vmaf": VMAF_MIN_SIDE, **{metric: MIN_SIDE[net] for metric, net in NETS.items()}}
        for metric in self.metrics:
            side = needs.get(metric, 1)
            if metric in FLOW_METRICS and isinstance(self.flow, DIS):
                side = max(side, DIS_MIN_SIDE)
            if min(height, width) < side:
                raise UserError(f"{height}x{width} pixels are too small for {metric}, which needs {side}x{side}")

    def tensor(self, frames: Frames) -> Tensor:
        """Turn uint8 (T,H,W,3) into float32 (T,3,H,W) in [0,1] on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255.0)
