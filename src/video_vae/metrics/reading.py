"""Read clips for scoring, a chunk at a time: lossless ones bit for bit, others as a player would show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from video_vae.data.frame_folders import EXACT_SUFFIXES, frame_files, read_frame_files
from video_vae.data.prefetch import prefetched
from video_vae.data.storage import COPIED, LOSSLESS_SUFFIX, STORAGE, iter_lossless, lossless_info
from video_vae.data.suffixes import IMAGE_SUFFIXES
from video_vae.data.transform import Frames, resize_crop
from video_vae.data.video import iterate_pieces, probe, read_image
from video_vae.errors import UserError

READ_AT_ONCE = 16
"""Frames decoded at once, before they are cut to size."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Which frames of a clip are scored, and at what size."""

    resolution: int | None = None
    """Resize the shorter side to this, in pixels; clips that have it already are left alone."""
    crop_size: int | None = None
    """Then cut a square of this side out of the centre."""
    num_frames: int | None = None
    """Score at most this many frames."""
    sample_rate: int = 1
    """Take every n-th frame."""

    def indices(self, frames: int) -> range:
        """List the frames that are scored of a clip with this many."""
        return range(0, frames, self.sample_rate)[: self.num_frames]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width at which a clip of this size is scored.

        Raises:
            UserError: if it is smaller than the crop.
        """
        height, width = self._resized(height, width)
        if self.crop_size is None:
            return height, width
        if min(height, width) < self.crop_size:
            raise UserError(f"{height}x{width} pixels do not hold a crop of {self.crop_size}; give --resolution too")
        return self.crop_size, self.crop_size

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resolution is None:
            return height, width
        scale = self.resolution / min(height, width)
        return max(self.resolution, round(height * scale)), max(self.resolution, round(width * scale))

    def cut(self, frames: Frames) -> Frames:
        """Bring frames, uint8 (T,H,W,3), to the size at which they are scored."""
        height, width = self.size(*frames.shape[1:3])
        resized = resize_crop(frames, self._resized(*frames.shape[1:3]))
        top, left = (resized.shape[1] - height) // 2, (resized.shape[2] - width) // 2
        return resized[:, top : top + height, left : left + width]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A clip's file, or its folder of frames, and what it says of itself."""

    path: Path
    frames: int
    height: int
    width: int
    fps: float | None
    storage: str
    """How the pixels are stored; `lossless` says whether that changed them."""
    lossless: bool
    stored: bool = False
    """Whether it is a file of this package, of which every pixel is checked."""
    images: tuple[Path, ...] = ()
    """The frames, where each is a file of its own."""
    source_id: str = ""
    """What it was cut from, where the file says so."""


def open_source(path: Path) -> Source:
    """Find out what a clip's file holds, or its folder of frames.

    Raises:
        MediaError, UserError: if it cannot be read.
    """
    if path.is_dir():
        return _open_frames(path)
    if path.suffix.lower() == LOSSLESS_SUFFIX:
        try:
            info = lossless_info(path)
        except UserError:  # a video of other origin, or no video at all: the general reader tells
            pass
        else:
            size = (info.frames, info.height, info.width)
            storage = str(info.meta.get(COPIED, STORAGE))
            said = {"fps": info.fps, "storage": storage, "source_id": str(info.meta.get("source_id", ""))}
            return _source(path, size, **said, lossless=COPIED not in info.meta, stored=True)
    media = probe(path)
    still = media.kind == "image"
    storage = f"{path.suffix.lower()[1:]} {'image' if still else 'video as found, its coding losses included'}"
    size = (media.num_frames, media.height, media.width)
    return _source(path, size, fps=media.fps, storage=storage, lossless=False)


def _source(path: Path, size: tuple[int, int, int], **said: Any) -> Source:
    return Source(path=path, frames=size[0], height=size[1], width=size[2], **said)


def _open_frames(folder: Path) -> Source:
    files = frame_files(folder)
    _, height, width, _ = read_frame_files(files[:1]).shape
    kinds = sorted({file.suffix.lower() for file in files})
    storage = f"{' and '.join(kind[1:] for kind in kinds)} images, a folder per clip"
    said = {"fps": None, "storage": storage, "lossless": set(kinds) <= EXACT_SUFFIXES}
    return _source(folder, (len(files), height, width), **said, images=tuple(files))


def read_chunks(source: Source, view: View, size: int) -> Iterator[Frames]:
    """Read the frames that are scored in chunks of `size`, one ahead in a thread: uint8 (t,h,w,3).

    Raises:
        MediaError, UserError: if the file is damaged or too small for the crop.
    """
    return prefetched(_regroup(_seen(source, view), size), 1)


def _seen(source: Source, view: View) -> Iterator[Frames]:
    indices = view.indices(source.frames)
    if source.path.suffix.lower() in IMAGE_SUFFIXES and source.frames == 1:
        yield view.cut(read_image(source.path))
    elif source.images:
        for start in range(0, len(indices), READ_AT_ONCE):
            yield view.cut(read_frame_files([source.images[index] for index in indices[start : start + READ_AT_ONCE]]))
    elif source.stored:
        yield from map(view.cut, _stored(source, view, len(indices)))
    else:
        yield from iterate_pieces(source.path, indices, READ_AT_ONCE, whole=True, see=view.cut)


def _stored(source: Source, view: View, missing: int) -> Iterator[Frames]:
    """Yield the frames that are scored of a file of this package, `missing` of them."""
    begin = 0
    for frames in iter_lossless(source.path, READ_AT_ONCE):
        picked = frames[-begin % view.sample_rate :: view.sample_rate][:missing]
        if len(picked):
            yield picked
        begin, missing = begin + len(frames), missing - len(picked)
        if not missing and begin < source.frames:  # else read on to the end, where the checksum is compared
            return


def _regroup(parts: Iterable[Frames], size: int) -> Iterator[Frames]:
    """Join and split parts into chunks of exactly `size` frames, but for the last."""
    held: list[Frames] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        while count >= size:
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            yield joined[:size]
            held, count = [joined[size:]], count - size
    if count:
        yield held[0] if len(held) == 1 else np.concatenate(held)
