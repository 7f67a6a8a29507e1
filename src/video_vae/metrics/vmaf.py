"""VMAF (Li et al. 2016, model v0.6.1) by the package vmaf-torch, for clips that are read in pieces."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from video_vae.metrics.pixel import check_frames

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in BT.709."""


def luma(frames: Tensor) -> Tensor:
    """Return the 8-bit luma (T,1,H,W) of frames (T,3,H,W) in [0,1]: BT.709, 16 to 235, rounded."""
    weights = frames.new_tensor(LUMA).view(1, 3, 1, 1)
    return (16 + 219 * (frames * weights).sum(dim=1, keepdim=True)).round()


class VMAF(nn.Module):
    """Compare two videos: `VMAF()(real, generated)` -> (T,), 0 to 100, both float (T,3,H,W) in [0,1].

    The score of a frame depends on its details in both clips, and on how far the original moves around it.
    """

    def __init__(self) -> None:
        super().__init__()
        # reads files by a package of its own and pandas; both are needed only here
        from vmaf_torch import VMAF as Model

        self.model = Model(clip_score=True).eval().requires_grad_(False)

    def forward(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return the score of each frame, (T,), float64."""
        check_frames(real, generated)
        pair = luma(real), luma(generated)
        return self.predict(self.details(*pair), torch.cat([pair[0].new_zeros(1), self.motion(pair[0])]))

    def details(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return the features of each frame that need no other frame, (T,5): ADM, and VIF at four scales."""
        adm, vif = self.model.compute_adm_score(real, generated), self.model.compute_vif_features(real, generated)
        return torch.cat([adm, vif], dim=-1)

    def motion(self, real: Tensor) -> Tensor:
        """Return how far each luma frame but the first is from the one before, blurred: (T-1,), in 8-bit levels."""
        return self.model.compute_motion(real)[1:, 0] if len(real) > 1 else real.new_zeros(0)

    def predict(self, details: Tensor, motion: Tensor) -> Tensor:
        """Return the scores (T,), float64, of the features (T,5) and the motion (T,), whose first value is 0.

        A frame's motion is the smaller one of that to the frame before and to the frame after.
        """
        after = torch.cat([motion[1:], motion[-1:]])
        least = torch.minimum(motion, after)
        least[0] = 0
        features = torch.cat([details[:, :1], least[:, None], details[:, 1:]], dim=-1)
        return self.model.predict(features[:, :1], features[:, 1:2], features[:, 2:])[:, 0].double()
