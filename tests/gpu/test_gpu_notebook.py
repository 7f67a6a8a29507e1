"""What the notebook calls computes on a GPU what it computes on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("nbformat", reason="the notebook needs the packages of [report]")

from test_explore import finished  # noqa: F401
from video_vae.explore.study import open_study


def test_the_notebooks_calls_are_those_of_the_processor(finished: Path, device: torch.device) -> None:  # noqa: F811
    here, there = (open_study("demo.json", finished, device=name) for name in ("cpu", device.type))
    video = here.video("clip_00", 9)
    latents = here.encode(video)
    torch.testing.assert_close(there.encode(video), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(there.decode(latents, 9), here.decode(latents, 9), atol=1e-3, rtol=0)
    torch.testing.assert_close(there.spatial_alone(video), here.spatial_alone(video), atol=1e-3, rtol=0)
