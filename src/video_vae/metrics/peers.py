"""Score a sample of frames again by the programs that others measure with: scikit-image, and the lpips package."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from video_vae.config import Checked
from video_vae.errors import UserError
from video_vae.metrics.pixel import PSNR_CAP, PSNR_FLOOR
from video_vae.metrics.reading import View, read_chunks
from video_vae.metrics.scoring import ClipScores
from video_vae.metrics.structural import EDGE, SIGMA
from video_vae.metrics.tools import Tools

CHEAP: tuple[Checked, ...] = ("psnr", "ssim")
"""What is checked where nothing is named; the lpips package alone takes seconds to import."""
TOLERANCES: dict[Checked, float] = {"psnr": 1e-3, "ssim": 1e-5, "lpips": 1e-4}
"""Largest differences allowed; PSNR in dB."""
PACKAGES: dict[Checked, str] = {"psnr": "scikit-image", "ssim": "scikit-image", "lpips": "lpips"}
FRAMES, PIXELS = 8, 8 * 256 * 256
"""Most frames that are scored again, and most of their pixels together (but at least one frame)."""
REACH = 64
"""Frames of a clip from which the sample is taken: files are decoded up to it."""
_Frame = NDArray[np.float32]
# (H,W,3) in [0,1]
_Scorer = Callable[[_Frame, _Frame], float]


def check_scores(
    scores: Sequence[ClipScores], view: View, tools: Tools, metrics: Sequence[Checked] = ()
) -> dict[str, Any]:
    """Score a sample of the frames again, always the same one, and return the largest difference of each metric.

    Args:
        scores: of all clips.
        view: which frames were scored, and at what size.
        tools: what they were scored with.
        metrics: what is checked, of what was scored.

    Raises:
        UserError: if a score differs by more than its tolerance; names the frame.
    """
    chosen = [name for name in metrics or CHEAP if name in tools.metrics]
    scorers = {name: _scorer(name, tools) for name in chosen}
    largest: dict[Checked, float] = dict.fromkeys(chosen, 0.0)
    count = 0
    for clip, wanted in _sample(scores) if chosen else ():
        for frame, (real, generated) in zip(wanted, _frames(clip, wanted, view), strict=True):
            count += 1
            for name, scorer in scorers.items():
                difference = _difference(clip, frame, name, scorer(real, generated))
                largest[name] = max(largest[name], difference)
    packages = sorted({PACKAGES[name] for name in chosen})
    tolerances = {name: TOLERANCES[name] for name in chosen}
    by = {name: version(name) for name in packages}
    return {"frames": count, "by": by, "largest_difference": largest, "tolerance": tolerances}


def _difference(clip: ClipScores, frame: int, name: Checked, other: float) -> float:
    """Return how far the other program's score of a frame is from ours."""
    own = float(clip.values[name][frame])
    if not abs(own - other) <= TOLERANCES[name]:
        by = f"{PACKAGES[name]} {version(PACKAGES[name])}"
        raise UserError(
            f"--check: {name} of {clip.name} ({clip.variant}, frame {frame}) is {own:.6g} here, {other:.6g} by {by}, "
            f"more than {TOLERANCES[name]:g} apart: this machine computes wrongly; run `make test` on it, "
            "or leave out --check"
        )
    return abs(own - other)


def _sample(scores: Sequence[ClipScores]) -> Iterator[tuple[ClipScores, list[int]]]:
    """Choose clips that are spread over all, and frames of each by its name."""
    if not scores:
        return
    size = max(clip.height * clip.width for clip in scores)
    count = max(1, min(FRAMES, PIXELS // size))
    for place in np.unique(np.linspace(0, len(scores) - 1, -(-count // 2)).astype(int)).tolist():
        clip = scores[place]
        frames = min(REACH, *clip.lengths)
        drawn = int.from_bytes(hashlib.sha256(f"{clip.variant}/{clip.name}".encode()).digest()[:8], "big")
        yield clip, sorted({drawn % frames, drawn // frames % frames} if count > 1 else {drawn % frames})


def _frames(clip: ClipScores, wanted: Sequence[int], view: View) -> Iterator[tuple[_Frame, _Frame]]:
    """Read frames of a clip's original and of its variant."""
    sides = [islice(read_chunks(source, view, 1), wanted[-1] + 1) for source in (clip.real, clip.generated)]
    for number, pair in enumerate(zip(*sides, strict=False)):
        if number in wanted:
            real, generated = (frames[0].astype(np.float32) / np.float32(255) for frames in pair)
            yield real, generated


def _scorer(name: Checked, tools: Tools) -> _Scorer:
    """Return what scores one frame by another program."""
    if name == "lpips":
        return _lpips(tools)
    from skimage import metrics

    def psnr(real: _Frame, generated: _Frame) -> float:
        """Score by scikit-image, capped as here."""
        first, second = real.astype(np.float64), generated.astype(np.float64)
        if metrics.mean_squared_error(first, second) < PSNR_FLOOR:
            return PSNR_CAP
        return float(metrics.peak_signal_noise_ratio(first, second, data_range=1.0))

    def ssim(real: _Frame, generated: _Frame) -> float:
        """Score by scikit-image with the settings of Wang et al., without the border that it pads."""
        how = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False, "data_range": 1.0}
        first, second = real.astype(np.float64), generated.astype(np.float64)
        _, full = metrics.structural_similarity(first, second, channel_axis=2, full=True, **how)
        return float(full[EDGE:-EDGE, EDGE:-EDGE].mean())

    return psnr if name == "psnr" else ssim


def _lpips(tools: Tools) -> _Scorer:
    """Return the lpips package's net with the weights in use."""
    import lpips

    own = tools.nets["alex"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of how it calls torchvision
        net = lpips.LPIPS(net="alex", spatial=own.spatial, pnet_rand=True, verbose=False).eval()
    net.load_state_dict({name: values.cpu() for name, values in own.state_dict().items()})

    def score(real: _Frame, generated: _Frame) -> float:
        """Score by the lpips package."""
        first, second = (torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (real, generated))
        with torch.inference_mode():
            return float(net(first, second, normalize=True).mean())

    return score
