"""Read the windows that a plan draws, from the latent cache or from the files, some steps ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from video_vae.data.prepared import PreparedClips
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import look, to_tensor
from video_vae.data.video import MediaError, read_clip
from video_vae.data.view import View
from video_vae.errors import UserError
from video_vae.latents.cache import LatentCache
from video_vae.training.plan import StagePlan, Window

ATTEMPTS = 32
"""Draws for one position before giving up."""
STUCK_SECONDS = 600.0
"""Longest wait for a batch that is read in the background."""


class Source(Protocol):
    """Where windows of clips come from."""

    clips: Sequence[Clip]
    """The table."""
    frames: list[int]
    """Frames that the model sees of each clip."""
    latents: bool
    """Windows are posterior moments (8,T,h,w); otherwise pixels (3,T,H,W) in [-1,1]."""

    def read(self, window: Window) -> Tensor:
        """Read a window as float32; raises MediaError where the clip cannot be used."""


class PixelSource:
    """Windows of pixels, decoded on demand: only the frames that a window needs.

    Args:
        clips: the table.
        resolution: height and width, in pixels.
        sampling: which frames are taken.
        zoom: enlargement of the middle of the frame, where a window has no view of its own.
        prepared: the videos as they were prepared; None decodes the clips themselves.
    """

    latents = False

    def __init__(
        self,
        clips: Sequence[Clip],
        resolution: tuple[int, int],
        sampling: Sampling,
        zoom: float = 1.0,
        prepared: PreparedClips | None = None,
    ) -> None:
        self.clips = clips
        self.resolution = resolution
        self.zoom = zoom
        self.sampling = sampling
        self.prepared = prepared
        self.frames = [sampling.count(clip) for clip in clips]

    def read(self, window: Window) -> Tensor:
        """Decode a window: float32 (3,T,H,W) in [-1,1]."""
        clip = self.clips[window.row]
        if self.prepared is not None and clip.kind == "video":
            return to_tensor(self.prepared.read(clip, window.start, window.length, window.view))
        frames = read_clip(clip, self.sampling.indices(clip)[window.start : window.start + window.length])
        return to_tensor(look(frames, self.resolution, window.view or View(zoom=self.zoom)))


class LatentSource:
    """Windows of cached posterior moments of the spatial VAE.

    Args:
        clips: the table.
        cache: holds every clip of it, but for those that it lists as failed.

    Raises:
        UserError: if the cache lacks a clip.
    """

    latents = True

    def __init__(self, clips: Sequence[Clip], cache: LatentCache) -> None:
        self.clips = clips
        self.cache = cache
        self.frames = [
            clip.num_frames if clip.clip_id in cache.failed else cache.num_frames(clip.clip_id) for clip in clips
        ]

    def read(self, window: Window) -> Tensor:
        """Read a window: float32 (8,T,h,w), means before log-variances."""
        clip_id = self.clips[window.row].clip_id
        if clip_id in self.cache.failed:
            raise MediaError("unreadable", self.cache.failed[clip_id])
        return self.cache.window(clip_id, window.start, window.length, window.view)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip that was drawn and could not be used."""

    path: str
    reason: str
    gone: bool = False
    """The file is missing or changed: no fault of the clip's own."""


@dataclass(kw_only=True)
class Batch:
    """What one rank sees in one step."""

    step: int
    images: bool
    """The step takes images."""
    positions: range
    """Positions of the global batch."""
    data: Tensor
    """Windows, stacked: moments (B,8,T,h,w) or pixels (B,3,T,H,W)."""
    latents: bool
    """`data` are moments."""
    windows: list[Window] = field(default_factory=list)
    """Where each of them comes from."""
    failures: list[Failure] = field(default_factory=list)
    """Draws that were replaced."""


def read_batch(plan: StagePlan, source: Source, step: int, positions: range) -> Batch:
    """Read a rank's part of a step; a clip that fails is replaced by the position's next draw.

    Raises:
        UserError: if a position's draws fail one after another.
    """
    failures: list[Failure] = []
    drawn = [_read_position(plan, source, step, position, failures) for position in positions]
    return Batch(
        step=step,
        images=plan.shape(step).images,
        positions=positions,
        data=torch.stack([data for _, data in drawn]),
        latents=source.latents,
        windows=[window for window, _ in drawn],
        failures=failures,
    )


def _read_position(
    plan: StagePlan, source: Source, step: int, position: int, failures: list[Failure]
) -> tuple[Window, Tensor]:
    for attempt in range(ATTEMPTS):
        window = plan.window(step, position, attempt)
        try:
            return window, source.read(window)
        except MediaError as error:
            failures.append(Failure(path=source.clips[window.row].path, reason=str(error), gone=error.gone))
    raise UserError(
        f"step {step}: {ATTEMPTS} consecutive draws could not be read, the last one {failures[-1].path} "
        f"({failures[-1].reason}); check that the files are still there"
    )


class Ahead:
    """Read the batches of some steps in order, in a thread that stays a few steps ahead.

    What is read depends on the step alone, so the thread changes only the waiting time.

    Args:
        read: step -> batch.
        steps: in order.
        depth: batches held ready; 0 reads each one when it is asked for.
    """

    def __init__(self, read: Callable[[int], Batch], steps: range, depth: int) -> None:
        self._read = read
        self._steps = steps
        self._depth = depth
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(max(1, depth))
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Batch]:
        if not self._depth:
            yield from map(self._read, self._steps)
            return
        # A daemon: a decoder that hangs must not keep the process alive.
        threading.Thread(target=self._work, name="read-ahead", daemon=True).start()
        for step in self._steps:
            yield self._take(step)

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()

    def _take(self, step: int) -> Batch:
        try:
            item = self._ready.get(timeout=STUCK_SECONDS)
        except queue.Empty:
            raise UserError(
                f"step {step}: its clips could not be read in {STUCK_SECONDS:.0f} s, a decoder hangs; "
                "start again to go on from the last checkpoint"
            ) from None
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        for step in self._steps:
            item: Batch | BaseException
            try:
                item = self._read(step)
            except BaseException as error:  # handed to the thread that trains
                item = error
            while not self._closed.is_set():
                try:
                    self._ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(item, BaseException):
                return
