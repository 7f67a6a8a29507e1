"""Frames that are to be read of a clip, in this process or in a worker of `readers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import Frames, look, resized_look
from video_vae.data.video import iterate_clip, read_clip
from video_vae.data.view import View


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
        """Decode them and resize each."""
        indices = self.sampling.indices(self.clip)[self.start : self.start + self.length]
        see = partial(look, resolution=self.resolution, view=self.view)
        (frames,) = iterate_clip(self.clip, indices, len(indices), see)
        return frames


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
