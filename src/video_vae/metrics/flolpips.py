"""FloLPIPS (Danier et al. 2022): LPIPS where each place counts by how much its motion differs from the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_vae.metrics.lpips import LPIPS, Features
from video_vae.metrics.pixel import check_frames

if TYPE_CHECKING:
    from video_vae.metrics.flow import Flow


class FloLPIPS(nn.Module):
    """Compare two videos: `FloLPIPS(lpips, flow)(real, generated)` -> (T-1,), both float (T,3,H,W) in [0,1].

    Value t: LPIPS distance of frame t, weighted by the difference of the flows from t to t+1 (section 3 of the paper).
    Identical videos score 0. Results with different flows cannot be compared: `.flow.name` belongs to each.
    """

    def __init__(self, lpips: LPIPS, flow: Flow) -> None:
        super().__init__()
        self.lpips, self.flow = lpips, flow

    def forward(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return one value per pair of consecutive frames, (T-1,), float64; (0,) for a single frame."""
        check_frames(real, generated)
        if len(real) < 2:
            return real.new_zeros(0, dtype=torch.float64)
        flows = [self.flow(frames[:-1], frames[1:]) for frames in (real, generated)]
        distances = self.lpips.distances(self.lpips.features(real[:-1]), self.lpips.features(generated[:-1]))
        return weighted_distance(distances, flows[0], flows[1])


def weighted_distance(distances: Features, flow_real: Tensor, flow_generated: Tensor) -> Tensor:
    """Sum the maps (N,1,h,w) of the LPIPS layers, weighted by the difference of the flows (N,2,H,W): (N,), float64.

    The difference is brought to the size of each layer, then its magnitude is taken and normalised to sum 1; where the
    flows are the same everywhere the weights are uniform.
    """
    difference = flow_generated.float() - flow_real.float()
    total = torch.zeros(len(difference), dtype=torch.float64, device=difference.device)
    for layer in distances:
        resized = functional.interpolate(difference, size=layer.shape[-2:], mode="bilinear", align_corners=False)
        magnitude = torch.hypot(resized[:, 0], resized[:, 1]).double()
        mass = magnitude.sum(dim=(1, 2), keepdim=True)
        uniform = torch.full_like(magnitude, 1.0 / magnitude[0].numel())
        weights = torch.where(mass > 0, magnitude / mass.clamp_min(torch.finfo(torch.float64).tiny), uniform)
        total = total + (weights * layer[:, 0].double()).sum(dim=(1, 2))
    return total
