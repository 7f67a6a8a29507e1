"""What is to be read of a clip, in this process or in a worker: it holds all that is needed, and can be pickled."""

from __future__ import annotations

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
class PixelPiece:
    """Frames of a clip as the model sees them, decoded on demand."""

    clip: Clip
    sampling: Sampling
    """Which frames the model sees."""
    start: int
    """First of them."""
    length: int
    """Number of frames."""
    resolution: tuple[int, int]
    """Height and width, in pixels."""
    view: View
    """Which part of the frames."""

    @property
    def path(self) -> str:
        """The file that is read."""
        return self.clip.path

    def fetch(self) -> Frames:
        """Decode them: uint8 (T,h,w,3).

        Raises:
            MediaError: if the file is gone, changed or damaged.
        """
        indices = self.sampling.indices(self.clip)[self.start : self.start + self.length]
        size = max(1, DECODED_BYTES // (3 * self.clip.height * self.clip.width))
        parts = iterate_clip(self.clip, indices, size)
        return np.concatenate([look(part, self.resolution, self.view) for part in parts])


@dataclass(frozen=True, kw_only=True)
class PreparedPiece:
    """Frames of a clip as they were prepared."""

    clip: Clip
    """The prepared one."""
    start: int
    """First frame."""
    length: int
    """Number of frames."""
    resolution: tuple[int, int]
    """Height and width, in pixels."""
    shape: tuple[int, int] | None
    """Height and width of the clip that it was made of, where its whole frames were kept."""
    view: View | None
    """Which part of the frames; None for the centre."""

    @property
    def path(self) -> str:
        """The file that is read."""
        return self.clip.path

    def fetch(self) -> Frames:
        """Decode them: uint8 (T,h,w,3).

        Raises:
            MediaError: if the file is gone, changed or damaged.
        """
        frames = read_clip(self.clip, range(self.start, self.start + self.length))
        if self.shape is not None and self.view is not None:
            return resized_look(frames, self.shape, self.resolution, self.view)
        return frames[:, :, ::-1] if self.view is not None and self.view.flip else frames
