"""VMAF equals the reference implementation's numbers, and does not depend on how a clip is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from video_vae.config import parse_config
from video_vae.errors import UserError
from video_vae.metrics import VMAF
from video_vae.metrics.vmaf import luma

GOLDEN = Path(__file__).parents[1] / "golden" / "vmaf.json"
"""Scores by libvmaf of the luma of the clips below, by frame, and how they were made."""
HEIGHT, WIDTH, FRAMES = 208, 240, 6
TOLERANCE = 0.3
"""libvmaf computes in whole numbers, vmaf-torch in floating point: 0.28 apart at most here, 0.05 but for one frame."""


def original() -> Tensor:
    """Return a clip of waves and grain that move to the right, (T,3,H,W) in [0,1], in steps of 1/255."""
    rows, columns = np.mgrid[0:HEIGHT, 0 : WIDTH + 4 * FRAMES].astype(np.float64)
    waves = np.sin(columns / 9 + rows / 23) + np.sin(rows / 5 - columns / 31) + np.sin((columns * rows) / 4001)
    grain = np.random.default_rng(0).normal(size=waves.shape)
    picture = 0.5 + 0.12 * waves + 0.05 * grain
    frames = [picture[:, 4 * step : 4 * step + WIDTH] for step in range(FRAMES)]
    colours = np.stack([np.stack([frame, 0.8 * frame + 0.1, 1 - frame]) for frame in frames])
    return torch.from_numpy((colours.clip(0, 1) * 255).round() / 255).float()


def degraded() -> dict[str, Tensor]:
    """Return what is scored: the clip itself, blurred, with noise, still, and darker."""
    clip = original()
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=clip.shape)).float()
    made = {
        "same": clip,
        "blurred": functional.avg_pool2d(functional.pad(clip, (2, 2, 2, 2), mode="reflect"), 5, stride=1),
        "noisy": clip + 0.08 * noise,
        "still": clip[:1].expand_as(clip),
        "darker": 0.7 * clip,
    }
    return {name: (frames.clamp(0, 1) * 255).round() / 255 for name, frames in made.items()}


@pytest.mark.parametrize("name", list(degraded()))
def test_scores_are_those_of_the_reference_implementation(name: str) -> None:
    wanted = json.loads(GOLDEN.read_text(encoding="utf-8"))["scores"][name]
    np.testing.assert_allclose(VMAF()(original(), degraded()[name]).numpy(), wanted, atol=TOLERANCE)


def test_luma_is_that_of_video() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]).view(3, 3, 1, 1)
    assert luma(colours).flatten().tolist() == [16.0, 235.0, 63.0]


def test_a_config_whose_frames_are_too_small_is_refused() -> None:
    with pytest.raises(UserError, match=r"vmaf needs frames of at least 192x192 pixels, and data\.resolution is 96x96"):
        parse_config({"data": {"resolution": [96, 96]}, "evaluation": {"metrics": ["vmaf"]}})
