"""Score what was generated from a clip, in one pass over its frames and in memory that its length does not change.

Whatever concerns the original alone, its LPIPS features and its optical flow, is computed once for all variants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from video_vae.data.transform import Frames
from video_vae.data.video import MediaError
from video_vae.errors import UserError
from video_vae.metrics.flolpips import weighted_distance
from video_vae.metrics.flow import Flow
from video_vae.metrics.lpips import Features, NetName
from video_vae.metrics.motion import carried_error, flow_difference, flow_length, visible
from video_vae.metrics.pairing import Pair
from video_vae.metrics.pixel import flicker, mse, psnr_from_mse
from video_vae.metrics.reading import Source, View, open_source, read_chunks
from video_vae.metrics.structural import ssim
from video_vae.metrics.tools import NETS, Tools
from video_vae.metrics.vmaf import VMAF, luma

DETAILS, MOTION = "vmaf details", "vmaf motion"
"""What is kept of each frame until VMAF's scores are made of it."""
MOVED = "motion"
"""How much the original moves from a frame to the next, in pixels; where a metric takes its flow."""
BATCH_PIXELS = 8 * 256 * 256
"""Pixels of a clip that are worked on at once, for each unit of the batch size."""


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """The scores of one variant of a clip, or of a window of it."""

    variant: str
    name: str
    """Name of its files."""
    clip_id: str
    window: int
    """Its first frame in the clip."""
    height: int
    width: int
    values: dict[str, NDArray[np.float64]]
    """A value per frame, (T,): flolpips and motion belong to a frame and the next; flicker, warping_error and tof to a
    frame and the one before."""
    lengths: tuple[int, int]
    """Frames of the original and of the variant; those beyond the shorter one's end were not scored."""
    real: Source
    generated: Source

    @property
    def unequal(self) -> bool:
        """Tell whether frames of one of them were left out."""
        return self.lengths[0] != self.lengths[1]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A variant of a clip or window that could not be scored, and why; `clip_id` is the name of its files."""

    variant: str
    clip_id: str
    reason: str


class _Originals:
    """A chunk of the original, with the frame before it; features and flow are computed when first asked for."""

    def __init__(self, frames: Tensor, before: Tensor | None, tools: Tools) -> None:
        self.frames = frames
        self.joined = _joined(before, frames)
        self._tools = tools
        self._features: dict[NetName, Features] = {}
        self._flow: Tensor | None = None
        self._carried: tuple[Tensor, Tensor] | None = None
        self._luma: Tensor | None = None

    def features(self, net: NetName, count: int) -> Features:
        """Return the features of the first `count` frames, computed once."""
        if net not in self._features:
            self._features[net] = self._tools.nets[net].features(self.frames)
        return _first(self._features[net], count)

    def flow(self, estimate: Flow, pairs: int) -> Tensor:
        """Return the flow of the first `pairs` pairs of frames, computed once."""
        if self._flow is None:
            self._flow = estimate(self.joined[:-1], self.joined[1:])
        return self._flow[:pairs]

    def carried(self, estimate: Flow, pairs: int) -> tuple[Tensor, Tensor]:
        """Return the flow from each frame to the one before, and which pixels both show, of the first `pairs` pairs."""
        if self._carried is None:
            backward = estimate(self.joined[1:], self.joined[:-1])
            self._carried = backward, visible(backward, self.flow(estimate, len(backward)))
        return self._carried[0][:pairs], self._carried[1][:pairs]

    def luma(self) -> Tensor:
        """Return the luma of the frames and of the one before, (T,1,H,W), computed once."""
        if self._luma is None:
            self._luma = luma(self.joined)
        return self._luma


@dataclass(kw_only=True)
class _Track:
    """One variant of a clip, and how far it was scored."""

    variant: str
    path: Path
    tools: Tools
    source: Source | None = None
    chunks: Iterator[Frames] = field(default_factory=lambda: iter(()))
    parts: dict[str, list[Tensor]] = field(default_factory=dict)
    frames: int = 0
    before: Tensor | None = None
    """The last frame that was scored, (1,3,H,W)."""
    distances: Features | None = None
    """The maps of its LPIPS distance."""
    read: int = 0
    """Frames that it had so far, scored or not."""
    refusal: str | None = None

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something with the variant unless that failed before."""
        if self.refusal is None:
            try:
                action()
            except (MediaError, UserError) as error:
                self.refusal = str(error)

    def open(self, real: Source, view: View, chunk: int) -> None:
        """Open the file and check that it can be compared with the original."""
        self.source = open_source(self.path)
        size, wanted = (view.size(source.height, source.width) for source in (self.source, real))
        if size != wanted:
            raise UserError(f"{size[0]}x{size[1]} pixels, the original {wanted[0]}x{wanted[1]}; they must be equal")
        self.tools.check_size(*size)
        self.chunks = read_chunks(self.source, view, chunk)

    def advance(self, originals: _Originals) -> None:
        """Score the next frames against a chunk of the original."""
        frames = next(self.chunks, None)
        if frames is None:
            return
        self.read += len(frames)
        generated = self.tools.tensor(frames[: len(originals.frames)])
        self._score_frames(originals, generated)
        self.before, self.frames = generated[-1:].clone(), self.frames + len(generated)

    def finish(self) -> None:
        """Read on to the end, where damage shows, and count the frames that are left."""
        self.read += sum(len(frames) for frames in self.chunks)

    def _score_frames(self, originals: _Originals, generated: Tensor) -> None:
        chosen, count = self.tools.metrics, len(generated)
        real, joined = originals.frames[:count], _joined(self.before, generated)
        if "psnr" in chosen:
            self._add("mse", mse(real, generated))
        if "ssim" in chosen:
            self._add("ssim", ssim(real, generated))
        if "flicker" in chosen:
            self._add("flicker", flicker(originals.joined[: len(joined)], joined))
        alex: Features | None = None
        for metric, name in (("lpips", NETS["lpips"]), ("lpips_vgg", NETS["lpips_vgg"])):
            net = self.tools.nets.get(name)
            if net is None:
                continue
            distances = net.distances(originals.features(name, count), net.features(generated))
            if metric in chosen:
                self._add(metric, net.score(distances, (real.shape[-2], real.shape[-1])))
            if metric == "lpips":
                alex = distances
        if self.tools.flow is not None:
            self._score_motion(originals, joined, alex, self.tools.flow)
        if self.tools.vmaf is not None:
            self._take_details(originals, generated, self.tools.vmaf)

    def _score_motion(self, originals: _Originals, joined: Tensor, distances: Features | None, flow: Flow) -> None:
        chosen, pairs = self.tools.metrics, len(joined) - 1
        if distances is not None and self.distances is not None:
            distances = tuple(torch.cat(pair) for pair in zip(self.distances, distances, strict=True))
        if pairs:
            self._add(MOVED, flow_length(originals.flow(flow, pairs)))
        if pairs and "warping_error" in chosen:
            self._add("warping_error", carried_error(joined, *originals.carried(flow, pairs)))
        if pairs and ("flolpips" in chosen or "tof" in chosen):
            real, motion = originals.flow(flow, pairs), flow(joined[:-1], joined[1:])
            if "tof" in chosen:
                self._add("tof", flow_difference(real, motion))
            if "flolpips" in chosen and distances is not None:
                self._add("flolpips", weighted_distance(_first(distances, pairs), real, motion))
        if distances is not None:
            self.distances = tuple(layer[-1:].clone() for layer in distances)

    def _take_details(self, originals: _Originals, generated: Tensor, vmaf: VMAF) -> None:
        """Take what VMAF needs of these frames; the score of one depends on the motion to the next."""
        count, real = len(generated), originals.luma()
        first = len(real) - len(originals.frames)
        self._add(DETAILS, vmaf.details(real[first : first + count], luma(generated)))
        motion = vmaf.motion(real[: first + count])
        self._add(MOTION, motion if first else torch.cat([motion.new_zeros(1), motion]))

    def _add(self, name: str, values: Tensor) -> None:
        self.parts.setdefault(name, []).append(values.cpu())

    def result(self, pair: Pair, real: Source, frames: int, size: tuple[int, int]) -> ClipScores | Refused:
        """Return the scores of all frames, or why there are none; the original had so many `frames`."""
        if self.refusal is not None or self.source is None or not self.frames:
            return Refused(variant=self.variant, clip_id=pair.name, reason=self.refusal or "no frames to compare")
        columns = {name: torch.cat(parts) for name, parts in self.parts.items()}
        if "mse" in columns:
            columns = {"psnr": psnr_from_mse(columns["mse"])} | columns
        if self.tools.vmaf is not None:
            model = self.tools.vmaf
            sides = (columns.pop(name).to(self.tools.device) for name in (DETAILS, MOTION))
            columns["vmaf"] = model.predict(*sides).cpu()
        gap = torch.full((1,), torch.nan, dtype=torch.float64)
        if self.tools.flow is not None:
            columns[MOVED] = torch.cat([columns.pop(MOVED, gap[:0]), gap])
        if "flolpips" in self.tools.metrics:
            columns["flolpips"] = torch.cat([columns.get("flolpips", gap[:0]), gap])
        for name in ("flicker", "warping_error", "tof"):
            if name in self.tools.metrics:
                columns[name] = torch.cat([gap, columns.get(name, gap[:0])])
        # copies: torch's own small pieces, kept for good, would pin the freed memory of whole clips between them
        values = {name: column.numpy().copy() for name, column in columns.items()}
        return ClipScores(
            variant=self.variant,
            name=pair.name,
            clip_id=pair.clip_id,
            window=pair.window,
            height=size[0],
            width=size[1],
            values=values,
            lengths=(frames, self.read),
            real=real,
            generated=self.source,
        )


def _joined(before: Tensor | None, frames: Tensor) -> Tensor:
    return frames if before is None else torch.cat([before, frames])


def _first(layers: Features, count: int) -> Features:
    return tuple(layer[:count] for layer in layers)


@torch.inference_mode()
def score_clip(
    pair: Pair, real: Source, view: View, tools: Tools, batch_size: int, on_frames: Callable[[int], object]
) -> list[ClipScores | Refused]:
    """Score all variants of a clip against the original; one that cannot be read or compared is refused, and why.

    `on_frames` is told of the original's frames as they are done.

    Raises:
        MediaError, UserError: if the original is damaged, or too small for the crop.
    """
    size = view.size(real.height, real.width)
    chunk = max(1, batch_size * BATCH_PIXELS // (size[0] * size[1]))
    tracks = [_Track(variant=variant, path=path, tools=tools) for variant, path in pair.generated.items()]
    for track in tracks:
        track.attempt(partial(track.open, real, view, chunk))
    before: Tensor | None = None
    count = 0
    for frames in read_chunks(real, view, chunk):
        count += len(frames)
        originals = _Originals(tools.tensor(frames), before, tools)
        for track in tracks:
            track.attempt(partial(track.advance, originals))
        before = originals.frames[-1:]
        on_frames(len(frames))
    for track in tracks:
        track.attempt(track.finish)
    return [track.result(pair, real, count, size) for track in tracks]
