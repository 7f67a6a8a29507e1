"""Read the windows that a plan draws, from the latent cache or from the files, some steps ahead."""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from video_vae.data.pieces import ClipPiece, PixelPiece
from video_vae.data.prepared import PreparedClips
from video_vae.data.readers import Piece, Readers
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import to_tensor
from video_vae.data.video import MediaError
from video_vae.data.view import View
from video_vae.errors import UserError
from video_vae.latents.cache import LatentCache, moments
from video_vae.training.plan import StagePlan, Window

READ_AHEAD = 2
"""Batches held ready."""
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
        readers: workers that decode; None decodes in this process.
    """

    latents = False

    def __init__(
        self,
        clips: Sequence[Clip],
        resolution: tuple[int, int],
        sampling: Sampling,
        zoom: float = 1.0,
        prepared: PreparedClips | None = None,
        readers: Readers | None = None,
    ) -> None:
        self.clips = clips
        self.resolution = resolution
        self.zoom = zoom
        self.sampling = sampling
        self.prepared = prepared
        self.readers = readers
        self.frames = [sampling.count(clip) for clip in clips]

    def read(self, window: Window) -> Tensor:
        """Decode a window: float32 (3,T,H,W) in [-1,1]."""
        return to_tensor(_fetched(self._piece(window), self.readers))

    def _piece(self, window: Window) -> ClipPiece:
        clip = self.clips[window.row]
        if self.prepared is not None and clip.kind == "video":
            return self.prepared.piece(clip, window.start, window.length, window.view)
        return PixelPiece(
            clip=clip,
            sampling=self.sampling,
            start=window.start,
            length=window.length,
            resolution=self.resolution,
            view=window.view or View(zoom=self.zoom),
        )


class LatentSource:
    """Windows of cached posterior moments of the spatial VAE.

    Args:
        clips: the table.
        cache: holds every clip of it, but for those that it lists as failed.
        readers: workers that read the files; None reads them in this process.

    Raises:
        UserError: if the cache lacks a clip.
    """

    latents = True

    def __init__(self, clips: Sequence[Clip], cache: LatentCache, readers: Readers | None = None) -> None:
        self.clips = clips
        self.cache = cache
        self.readers = readers
        self.frames = [
            clip.num_frames if clip.clip_id in cache.failed else cache.num_frames(clip.clip_id) for clip in clips
        ]

    def read(self, window: Window) -> Tensor:
        """Read a window: float32 (8,T,h,w), means before log-variances."""
        clip_id = self.clips[window.row].clip_id
        if clip_id in self.cache.failed:
            raise MediaError("unreadable", self.cache.failed[clip_id])
        piece = self.cache.piece(clip_id, window.start, window.length, window.view)
        return moments(_fetched(piece, self.readers))


class SizedSource:
    """Windows at several sizes, each read by the source of its size.

    Args:
        sources: of the same clips, in the order of the plan's sizes.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.clips = sources[0].clips
        self.latents = sources[0].latents
        # A clip that fails at one size only may have another count there.
        self.frames = [min(counts) for counts in zip(*(source.frames for source in sources), strict=True)]

    def read(self, window: Window) -> Tensor:
        """Read a window as float32 at its size: moments (8,T,h,w) or pixels (3,T,H,W) in [-1,1]."""
        return self.sources[window.size].read(window)


def _fetched(piece: Piece[NDArray[Any]], readers: Readers | None) -> NDArray[Any]:
    return piece.fetch() if readers is None else readers.fetch(piece)


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


class Ahead:
    """Read the batches of some steps in order, in threads that stay some steps ahead.

    What is read depends on the step alone, so the threads change only the waiting time.

    Args:
        plan: what each position of a step is.
        source: where it is read.
        steps: in order.
        positions: of the global batch, this rank's.
        threads: that read, a position at a time; 0 reads each batch when it is asked for.
        pinned: batches lie in page-locked memory, from which a GPU copies beside its work.

    Raises:
        UserError: when iterated, if a position's draws fail one after another, or none comes for `STUCK_SECONDS`.
    """

    def __init__(
        self, plan: StagePlan, source: Source, steps: range, positions: range, *, threads: int, pinned: bool = False
    ) -> None:
        self._begin = partial(_Gathered, plan, source, positions, pinned)
        self._steps = steps
        self._threads = threads
        # Every thread has a position to read while so many batches lie ready.
        self._depth = READ_AHEAD + math.ceil(threads / len(positions))
        self._tasks: queue.SimpleQueue[tuple[_Gathered, int] | None] = queue.SimpleQueue()
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Batch]:
        if not self._threads:
            for step in self._steps:
                gathered = self._begin(step)
                for place in gathered.places:
                    gathered.read(place)
                yield gathered.batch()
            return
        for number in range(self._threads):
            # A daemon: a decoder that hangs must not keep the process alive.
            threading.Thread(target=self._work, name=f"read-ahead-{number}", daemon=True).start()
        coming = iter(self._steps)
        ahead = deque(self._started(step) for step in islice(coming, self._depth))
        while ahead:
            batch = ahead.popleft().batch()
            ahead.extend(self._started(step) for step in islice(coming, 1))
            yield batch

    def close(self) -> None:
        """Stop the threads."""
        self._closed.set()
        for _ in range(self._threads):
            self._tasks.put(None)

    def _started(self, step: int) -> _Gathered:
        gathered = self._begin(step)
        for place in gathered.places:
            self._tasks.put((gathered, place))
        return gathered

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._closed.is_set():
            gathered, place = task
            gathered.read(place)


class _Gathered:
    """A rank's part of a step, of which threads read the positions."""

    def __init__(self, plan: StagePlan, source: Source, positions: range, pinned: bool, step: int) -> None:
        self._plan, self._source, self._step, self._positions = plan, source, step, positions
        self.places = range(len(positions))
        self._read: list[Future[tuple[Window, list[Failure]]]] = [Future() for _ in positions]
        self._lock = threading.Lock()
        self._pinned = pinned
        self._data: Tensor | None = None

    def read(self, place: int) -> None:
        """Read a position; a clip that fails is replaced by the position's next draw."""
        try:
            drawn = self._drawn(self._positions[place], place)
        except BaseException as error:  # handed to the thread that trains
            self._read[place].set_exception(error)
        else:
            self._read[place].set_result(drawn)

    def _drawn(self, position: int, place: int) -> tuple[Window, list[Failure]]:
        failures: list[Failure] = []
        for attempt in range(ATTEMPTS):
            window = self._plan.window(self._step, position, attempt)
            try:
                self._keep(place, self._source.read(window))
            except MediaError as error:
                path = self._source.clips[window.row].path
                failures.append(Failure(path=path, reason=str(error), gone=error.gone))
            else:
                return window, failures
        raise UserError(
            f"step {self._step}: {ATTEMPTS} consecutive draws could not be read, the last one {failures[-1].path} "
            f"({failures[-1].reason}); check that the files are still there"
        )

    def _keep(self, place: int, data: Tensor) -> None:
        with self._lock:
            if self._data is None:
                shape = (len(self._positions), *data.shape)
                self._data = torch.empty(shape, dtype=data.dtype, pin_memory=self._pinned)
        self._data[place] = data

    def batch(self) -> Batch:
        """Wait until all of it is read.

        Raises:
            UserError: if a position's draws fail one after another, or none comes for `STUCK_SECONDS`.
        """
        try:
            drawn = [future.result(STUCK_SECONDS) for future in self._read]
        except TimeoutError:
            raise UserError(
                f"step {self._step}: its clips could not be read in {STUCK_SECONDS:.0f} s, a decoder hangs; "
                "start again to go on from the last checkpoint"
            ) from None
        assert self._data is not None  # noqa: S101 (every position was read)
        return Batch(
            step=self._step,
            images=self._plan.shape(self._step).images,
            positions=self._positions,
            data=self._data,
            latents=self._source.latents,
            windows=[window for window, _ in drawn],
            failures=[failure for _, failures in drawn for failure in failures],
        )
