"""What computes on a GPU, or with VIDEO_VAE_TEST_DEVICE=cpu on the processor, so that the code is tried anywhere."""

from __future__ import annotations

import os

import pytest
import torch

from video_vae.distributed.device import pick_device


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return the device under test; skip where there is none."""
    wanted = os.environ.get("VIDEO_VAE_TEST_DEVICE", "cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device; VIDEO_VAE_TEST_DEVICE=cpu runs these tests on the processor")
    return pick_device(wanted)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """Return the GPU; skip on the processor."""
    if device.type != "cuda":
        pytest.skip("of a GPU alone")
    return device
