"""Small real files and nets that several tests work on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from video_vae.data.storage import write_lossless, write_preview
from video_vae.data.table import Clip
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL

TEMPORAL = {
    "base_channels": 4,
    "layers_per_block": 1,
    "channel_multipliers": [1, 1, 1, 1],
    "temporal_downsample": [False, True, True],
    "norm_num_groups": 2,
}
BROKEN = ("empty.mp4", "text.mp4", "truncated.mp4")
SPATIAL = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}


class Harmful:
    """Its pickle is code that makes a file, where it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.path}",)


def make_clip(folder: Path, name: str, frames: int, **fields: object) -> Clip:
    """Write a video of 48x56 pixels, coloured blocks that change from frame to frame; return its row."""
    path = folder / f"{name}.mkv"
    rng = np.random.default_rng(len(name) + frames)
    coarse = rng.integers(0, 256, (frames, 6, 7, 3), dtype=np.uint8)
    write_lossless(path, coarse.repeat(8, axis=1).repeat(8, axis=2), 25)
    values = {
        "clip_id": name,
        "path": str(path),
        "kind": "video",
        "source_id": name,
        "start_frame": 0,
        "num_frames": frames,
        "height": 48,
        "width": 56,
        "fps": 25.0,
        "aspect_ratio": 48 / 56,
        "resolution": 48 * 56,
        "text": "",
        "split": "train",
    }
    return Clip(**(values | fields))  # type: ignore[arg-type]


def make_spatial(folder: Path, seed: int = 0) -> AutoencoderKL:
    """Save a spatial VAE with random weights."""
    torch.manual_seed(seed)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    net = AutoencoderKL(**SPATIAL, **blocks)
    net.save_pretrained(folder)
    return net.eval()


def make_video_vae(
    folder: Path, seed: int = 0, chunk_frames: int | None = 17, norm_scope: str = "clip", pad_mode: str = "constant"
) -> VideoAutoencoderKL:
    """Save a whole video VAE with random weights."""
    spatial = make_spatial(folder / "spatial", seed)
    temporal = TemporalAutoencoderKL(**TEMPORAL, norm_scope=norm_scope, pad_mode=pad_mode)
    model = VideoAutoencoderKL(spatial, temporal, scaling_factor=0.5, chunk_frames=chunk_frames)
    model.save_pretrained(folder / "model")
    return model.eval()


def make_tiny_vae(
    folder: Path, chunk_frames: int | None = 17, norm_scope: str = "clip", pad_mode: str = "constant"
) -> VideoAutoencoderKL:
    """Save a video VAE with random weights and few layers (2x4x4), where what is tried is done layer by layer."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    spatial = AutoencoderKL(block_out_channels=(4, 4, 4), norm_num_groups=2, **blocks)
    sizes = {"base_channels": 4, "layers_per_block": 1, "channel_multipliers": (1, 1), "norm_num_groups": 2}
    temporal = TemporalAutoencoderKL(**sizes, temporal_downsample=(True,), norm_scope=norm_scope, pad_mode=pad_mode)
    model = VideoAutoencoderKL(spatial, temporal, scaling_factor=0.5, chunk_frames=chunk_frames)
    model.save_pretrained(folder / "tiny")
    return model.eval()


def write_clips(folder: Path, frames: int, height: int = 48, width: int = 64) -> None:
    """Write five videos of moving blocks, 72x96 pixels at most, and the three broken files of `BROKEN`."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        scene = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(6, axis=0).repeat(6, axis=1)
        moving = [np.roll(scene, 2 * frame, axis=1)[:height, :width] for frame in range(frames)]
        write_preview(folder / f"clip {number}.mp4", np.stack(moving), 24)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 50, encoding="utf-8")
    whole = (folder / "clip 0.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
