"""Metrics of reconstructed video: PSNR, SSIM, LPIPS, FloLPIPS, flicker, and the scoring of folders."""

from __future__ import annotations

from video_vae.metrics.flolpips import FloLPIPS
from video_vae.metrics.flow import DIS, RAFT, Flow, load_flow
from video_vae.metrics.lpips import LPIPS, load_lpips
from video_vae.metrics.pixel import flicker, mse, psnr, psnr_from_mse
from video_vae.metrics.pwcnet import PWCNet
from video_vae.metrics.structural import ssim

__all__ = [
    "DIS",
    "LPIPS",
    "RAFT",
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
]
