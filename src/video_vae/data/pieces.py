"""Frames that are to be read of a clip, in this process or in a worker of `readers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, look, resized_look
from video_vae.data.video import iterate_clip, read_clip
from video_vae.data.view import View

DECODED_BYTES = 24 << 20
"""Decoded frames held at once: so little is memory that the process has already, and a window of 4K is 400 MB."""


@dataclass(frozen=True, kw_only=True)
class ClipPiece(ABC):
    """Frames of a clip as the model sees them."""

    clip: Clip
    """The clip, or what was prepared of it."""
    start: int
    """First of the frames that the model sees."""
    length: int
    """Number of frames."""
    resolution: tuple[int, int]
    """Height and width, in pixels."""

    @property
    def path(self) -> str:
        """The file that is read."""
        return self.clip.path

    @abstractmethod
    def fetch(self) -> Frames:
        """Decode them: uint8 (T,h,w,3).

        Raises:
            MediaError: if the file is gone, changed or damaged.
        """


@dataclass(frozen=True, kw_only=True)
class PixelPiece(ClipPiece):
    """Frames of the clip itself."""

    sampling: Sampling
    """Which frames the model sees."""
    view: View
    """Which part of the frames."""

    def fetch(self) -> Frames:
        """Decode and resize them, a few at a time."""
        indices = self.sampling.indices(self.clip)[self.start : self.start + self.length]
        size = max(1, DECODED_BYTES // (3 * self.clip.height * self.clip.width))
        parts = iterate_clip(self.clip, indices, size)
        return np.concatenate([look(part, self.resolution, self.view) for part in parts])


@dataclass(frozen=True, kw_only=True)
class PreparedPiece(ClipPiece):
    """Frames as they were prepared."""

    shape: tuple[int, int] | None
    """Height and width of the clip that they were made of, where whole frames were kept."""
    view: View | None
    """Which part of the frames; None for the centre."""

    def fetch(self) -> Frames:
        """Decode them, and cut the view out of whole frames."""
        frames = read_clip(self.clip, range(self.start, self.start + self.length))
        if self.shape is not None and self.view is not None:
            return resized_look(frames, self.shape, self.resolution, self.view)
        return frames[:, :, ::-1] if self.view is not None and self.view.flip else frames
