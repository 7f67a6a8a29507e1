"""What each training step sees, as a pure function of (seed, stage, step, position in the global batch).

Nothing here holds a state: a resumed run, another number of ranks, workers or micro-batches draw the same clips, the
same windows and the same noise. Imports no torch.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from video_vae.config import Data, Stage
from video_vae.config.sizes import size_text
from video_vae.data.view import View
from video_vae.errors import UserError

log = logging.getLogger(__name__)


def draw(*key: int | str) -> int:
    """Return 63 random bits, a pure function of the key."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def draw_below(bound: int, *key: int | str) -> int:
    """Return an integer in [0, bound), uniform (to 2**-63 * bound) and a pure function of the key."""
    return draw(*key) * bound >> 63


def draw_share(*key: int | str) -> float:
    """Return a number in [0, 1), uniform and a pure function of the key."""
    return (draw(*key) >> 10) / 2**53


def steps_of(stage: Stage, num_clips: int) -> int:
    """Return the optimizer steps of a stage, counting its epochs over `num_clips` clips where it is given in epochs."""
    if stage.steps is not None:
        return stage.steps
    return max(1, math.ceil((stage.epochs or 0.0) * num_clips / stage.global_batch))


def epochs_of(stage: Stage, steps: int, num_clips: int) -> float:
    """Return how many passes over `num_clips` clips so many steps are."""
    return steps * stage.global_batch / num_clips


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames of one clip: `length` frames from `start`, counted at the data's frame interval."""

    row: int
    """Row of the clip in its table, from 0."""
    start: int
    """First frame."""
    length: int
    """Number of frames."""
    view: View | None = None
    """Which part of the frames; None for the centre, as scores see it."""
    size: int = 0
    """At which of the plan's sizes, from 0."""


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """What all clips of one step have in common, so that they can be stacked."""

    images: bool
    """The step takes images: real ones, or single frames of videos."""
    length: int
    """Frames per clip."""
    size: int = 0
    """Which of the plan's sizes the clips are seen at, from 0."""


class StagePlan:
    """Draw the clips, windows and noise of a stage's steps.

    Args:
        seed: of the whole run.
        name: name of the stage; stages draw independently.
        stage: settings of the stage.
        frames: frames of each clip of the training table, at the data's frame interval.
        videos: whether each clip is a video.
        data: how training looks at the frames (`crop`, `scales`, `flip`, `buckets`); by default as scores do.

    Raises:
        UserError: if no clip is long enough for the stage's shortest length.
    """

    def __init__(
        self,
        *,
        seed: int,
        name: str,
        stage: Stage,
        frames: Sequence[int],
        videos: Sequence[bool],
        data: Data | None = None,
    ) -> None:
        self.key = (seed, name)
        self._data = data or Data()
        self.name = name
        self.image_share = stage.image_share
        self.sizes = stage.sizes(self._data)
        self._until = list(accumulate(bucket.share for bucket in self.sizes))
        self.num_clips = len(frames)
        self._frames = list(frames)
        rows = [row for row, video in enumerate(videos) if video]
        # Longest last, so that the clips that are long enough are always a tail.
        self._rows = sorted(rows, key=lambda row: (frames[row], row))
        self._lengths = [frames[row] for row in self._rows]
        self.shortest, self.longest = self._range(stage)

    def _range(self, stage: Stage) -> tuple[int, int]:
        shortest, longest = stage.frames
        if stage.image_share == 1.0:
            return shortest, longest
        if not self._rows:
            raise UserError(
                f"{self.name}: the training clips hold images only; add videos or set stages.{self.name}.image_share: 1"
            )
        available = self._lengths[-1]
        if available < shortest:
            raise UserError(
                f"{self.name}: the longest of the training clips has {available} frames, stages.{self.name}.frames "
                f"asks for at least {shortest}; add longer clips or lower it"
            )
        if available < longest:
            log.warning("%s: lengths are drawn up to %d, not %d: no clip is longer", self.name, available, longest)
        return shortest, min(longest, available)

    def shape(self, step: int) -> StepShape:
        """Return whether a step (counted from 1) takes images, the length of its clips, and at which size."""
        share, size = draw(*self.key, step, "images") / 2**63, self._size(step)
        if share < self.image_share:
            return StepShape(images=True, length=1, size=size)
        spread = self.longest - self.shortest + 1
        length = self.shortest + draw_below(spread, *self.key, step, "length")
        return StepShape(images=False, length=length, size=size)

    def _size(self, step: int) -> int:
        if len(self.sizes) == 1:
            return 0
        place = draw_share(*self.key, step, "size") * self._until[-1]
        return min(bisect_right(self._until, place), len(self.sizes) - 1)  # the product may be rounded up to the sum

    def noted(self, step: int) -> dict[str, bool | str]:
        """Return what the log says of a step: whether it takes images, and where there are several sizes, which."""
        shape = self.shape(step)
        size = {"size": size_text(self.sizes[shape.size].resolution)} if len(self.sizes) > 1 else {}
        return {"images": shape.images, **size}

    def window(self, step: int, position: int, attempt: int = 0) -> Window:
        """Return the window at a position of a step's global batch; `attempt` counts its replacements.

        Image steps draw uniformly over all clips and images, video steps over the videos that are long enough.
        """
        shape, key = self.shape(step), (*self.key, step, position, attempt)
        if shape.images:
            row = draw_below(self.num_clips, *key, "clip")
        else:
            short = bisect_right(self._lengths, shape.length - 1)
            row = self._rows[short + draw_below(len(self._rows) - short, *key, "clip")]
        start = draw_below(self._frames[row] - shape.length + 1, *key, "start")
        return Window(row=row, start=start, length=shape.length, view=self._view(*key), size=shape.size)

    def _view(self, *key: int | str) -> View | None:
        data = self._data
        flip = data.flip and draw_share(*key, "flip") < 0.5
        if data.crop == "center":
            return View(zoom=data.zoom, flip=True) if flip else None
        zoom = data.scales[draw_below(len(data.scales), *key, "scale")]
        return View(zoom=zoom, place=(draw_share(*key, "top"), draw_share(*key, "left")), flip=flip)

    def noise_seed(self, step: int, position: int, use: str) -> int:
        """Return the seed of the noise at a position; `use` tells the spatial and the temporal posterior apart."""
        return draw(*self.key, step, position, "noise", use)

    def scored_frames(self, step: int, position: int, count: int | None) -> list[int]:
        """Return which frames of a clip LPIPS scores: `count` of them in order, drawn without repeats, or all."""
        length = self.shape(step).length
        if count is None or count >= length:
            return list(range(length))
        order = sorted(range(length), key=lambda frame: draw(*self.key, step, position, "scored", frame))
        return sorted(order[:count])
