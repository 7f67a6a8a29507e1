"""Metrics of reconstructed video: of frames, of details and of motion, and the scoring of folders.

The names below are imported when they are first asked for: gathering scores in a table needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video_vae.metrics.flolpips import FloLPIPS
    from video_vae.metrics.flow import DIS, RAFT, Flow, load_flow
    from video_vae.metrics.lpips import LPIPS, load_lpips
    from video_vae.metrics.motion import tof, warping_error
    from video_vae.metrics.pixel import flicker, mse, psnr, psnr_from_mse
    from video_vae.metrics.pwcnet import PWCNet
    from video_vae.metrics.structural import ssim
    from video_vae.metrics.vmaf import VMAF

__all__ = [
    "DIS",
    "LPIPS",
    "RAFT",
    "VMAF",
    "FloLPIPS",
    "Flow",
    "PWCNet",
    "flicker",
    "load_flow",
    "load_lpips",
    "mse",
    "psnr",
    "psnr_from_mse",
    "ssim",
    "tof",
    "warping_error",
]
_HOMES = {
    "flolpips": ("FloLPIPS",),
    "flow": ("DIS", "RAFT", "Flow", "load_flow"),
    "lpips": ("LPIPS", "load_lpips"),
    "motion": ("tof", "warping_error"),
    "pixel": ("flicker", "mse", "psnr", "psnr_from_mse"),
    "pwcnet": ("PWCNet",),
    "structural": ("ssim",),
    "vmaf": ("VMAF",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
