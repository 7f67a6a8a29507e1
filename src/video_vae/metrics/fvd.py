"""rFVD: the Frechet distance between features of originals and of reconstructions (Unterthiner et al. 2018).

The feature net is a TorchScript file. It is called with float32 (B, 3, T, 224, 224) in [-1, 1] and gives (B, D). Where
its `forward` has the options of the public `i3d_torchscript.pt`, they are given as rescale=False, resize=False,
return_features=True. A number depends on the net, on the number of samples, on their length and on the stride, and can
be compared with no other: its name and its conditions say all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from video_vae.config.results import MIN_FVD_FRAMES
from video_vae.data.transform import Frames, resize_crop, to_tensor
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.metrics.pairing import Pair
from video_vae.metrics.reading import Source, View, open_source, read_chunks
from video_vae.weights.tensors import not_finite

SIDE = 224
"""Side of the square that the feature net sees: the shorter side resized, the centre cropped."""
OPTIONS = {"rescale": False, "resize": False, "return_features": True}
USUAL_SAMPLES = 256
"""Samples below which the estimate of a distance is far too high: a covariance of 400 dimensions needs many."""
Features = NDArray[np.float64]
"""Features of samples, (N, D)."""


@dataclass(frozen=True, kw_only=True)
class FeatureNet:
    """A loaded feature net."""

    net: Any
    sha256: str
    frames: int
    """Frames of a sample."""
    device: torch.device

    @classmethod
    def load(cls, weights: str, sha256: str | None, frames: int, device: torch.device) -> FeatureNet:
        """Load a TorchScript file whose hash is known; nothing else of it is trusted.

        Raises:
            UserError: if the file or its hash is missing, or the file is not what the hash says or not TorchScript.
        """
        path = Path(weights)
        if not path.is_file():
            raise UserError(
                f"rFVD's feature net {path}: no such file; give a TorchScript file, or none to leave it out"
            )
        if sha256 is None:
            raise UserError(f"rFVD's feature net {path}: give its hash as well (--fvd_sha256); it is code that is run")
        found = sha256_file(path)
        if found != sha256:
            raise UserError(f"{path} has sha256 {found}, not {sha256}; get the right file or correct the hash")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, but what the public net comes in
                net = torch.jit.load(path, map_location=device)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not TorchScript: {' '.join(str(error).split())[:200]}") from None
        wrong = not_finite(net.state_dict())
        if wrong:
            raise UserError(f"{path}: {len(wrong)} tensors are not finite, such as {wrong[0]}; get another file")
        loaded = cls(net=net.eval(), sha256=found, frames=frames, device=device)
        loaded(np.zeros((frames, SIDE, SIDE, 3), dtype=np.uint8))  # a net that does not work says so before the scores
        return loaded

    @property
    def label(self) -> str:
        """Name the net as results do."""
        return f"torchscript:{self.sha256[:8]}"

    def __call__(self, frames: Frames) -> Features:
        """Return the features of one sample, uint8 (T,H,W,3): (D,).

        Raises:
            UserError: if the net fails, or does not give finite (1, D).
        """
        video = to_tensor(resize_crop(frames, (SIDE, SIDE)))[None].to(self.device)
        try:
            with torch.inference_mode():
                known = {argument.name for argument in self.net.forward.schema.arguments}
                features = self.net(video, **{name: value for name, value in OPTIONS.items() if name in known})
        except Exception as error:  # whatever the code of a foreign net raises
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(
                f"rFVD's feature net fails on {len(frames)} frames of {SIDE}x{SIDE}: {(said or [repr(error)])[-1]}; "
                "give a net that takes float32 (B, 3, T, 224, 224), or more fvd_frames"
            ) from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 1:
            raise UserError("rFVD's feature net does not give (B, D) features; see `video_vae.metrics.fvd`")
        result: Features = features[0].double().cpu().numpy()
        if not np.isfinite(result).all():
            raise UserError("rFVD's feature net gives features that are not finite; get another file")
        return result

    def clip(self, source: Source, view: View) -> tuple[Features, int]:
        """Return the features of a clip's consecutive samples, (N, D), and its frames; a rest fills no sample."""
        count = 0
        found = []
        for chunk in read_chunks(source, view, self.frames):
            count += len(chunk)
            if len(chunk) == self.frames:
                found.append(self(chunk))
        return np.stack(found) if found else np.empty((0, 0)), count


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of one variant of a clip and of the original, sample by sample."""

    variant: str
    clip_id: str
    real: Features
    generated: Features
    frames: int
    """Frames that both have."""


def clip_features(pair: Pair, real: Source, view: View, net: FeatureNet, variants: Sequence[str]) -> list[ClipFeatures]:
    """Take the features of a clip's variants, and once those of the original; as many samples as both have."""
    original, length = net.clip(real, view)
    found = []
    for variant in variants:
        generated, other = net.clip(open_source(pair.generated[variant]), view)
        count = min(len(original), len(generated))
        sides = {"real": original[:count], "generated": generated[:count]}
        found.append(ClipFeatures(variant=variant, clip_id=pair.name, frames=min(length, other), **sides))
    return found


def summarize_fvd(clips: Sequence[ClipFeatures], net: FeatureNet, stride: int) -> Mapping[str, dict[str, Any]]:
    """Give rFVD per variant, by a name that holds samples, frames and stride; null with fewer than 2 samples."""
    result: dict[str, dict[str, Any]] = {}
    for variant in dict.fromkeys(clip.variant for clip in clips):
        mine = [clip for clip in clips if clip.variant == variant]
        chosen = [clip for clip in mine if len(clip.real)]
        samples = sum(len(clip.real) for clip in chosen)
        distance = None
        if samples > 1:
            sides = ([clip.real for clip in chosen], [clip.generated for clip in chosen])
            distance = frechet_distance(*(np.concatenate(side) for side in sides))
        result[variant] = {
            "name": f"rfvd_n{samples}_f{net.frames}_s{stride}",
            "value": distance,
            "reason": None if samples > 1 else _too_few(samples, mine, net),
            "warning": _biased(samples) if 1 < samples < USUAL_SAMPLES else None,
            "samples": samples,
            "frames": net.frames,
            "stride": stride,
            "features": net.label,
            "dimensions": chosen[0].real.shape[1] if chosen else None,
            "left_out": len(mine) - len(chosen),
        }
    return result


def _biased(samples: int) -> str:
    return (
        f"{samples} samples: FVD comes out too high below {USUAL_SAMPLES}; compare with the same number of samples only"
    )


def _too_few(samples: int, clips: Sequence[ClipFeatures], net: FeatureNet) -> str:
    """Say why there is no distance."""
    longest = max((clip.frames for clip in clips), default=0)
    fewer = f"fewer fvd_frames (at least {MIN_FVD_FRAMES})"
    if samples:
        return f"1 sample of {net.frames} frames, a distance needs 2: give more clips, or {fewer}"
    cure = f"give {fewer}" if longest >= MIN_FVD_FRAMES else "give longer clips"
    return f"no clip holds a sample of {net.frames} frames, the longest has {longest}: {cure}"


def frechet_distance(first: Features, second: Features) -> float:
    """Return the squared Frechet distance of the Gaussians with the moments of (N, D) and (M, D), N and M above 1.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). With C = X'X / (n - 1), X the centred features, the last trace
    is the nuclear norm of X1 X2' over the roots of n - 1: exact also where there are fewer samples than dimensions and
    the covariances are singular, where a matrix root of their product is not.
    """
    a, b = (_root(side) for side in (first, second))
    spread = float(np.square(a).sum() + np.square(b).sum())
    shared = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    apart = float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum())
    return max(0.0, apart + spread - 2 * shared)


def _root(features: Features) -> Features:
    """Return some R, (min(N, D), D), whose R'R is the covariance of (N, D)."""
    scaled = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(scaled) <= scaled.shape[1]:
        return scaled
    upper: Any = np.linalg.qr(scaled, mode="r")
    return np.asarray(upper)
