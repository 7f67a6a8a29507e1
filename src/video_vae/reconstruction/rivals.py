"""What the video VAE is compared with on the same windows: another spatial VAE, or videos that somebody else made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from video_vae.data.frame_folders import frame_files
from video_vae.data.identity import content_sha256
from video_vae.data.storage import COPIED
from video_vae.data.transform import Frames
from video_vae.data.video import MediaError
from video_vae.errors import UserError
from video_vae.metrics.pairing import list_clips
from video_vae.metrics.reading import Source, View, open_source, read_chunks
from video_vae.reconstruction.variants import Piece, frame_by_frame, piece_frames


@dataclass(frozen=True, kw_only=True)
class SpatialRival:
    """Each frame through another spatial VAE by itself."""

    spatial: Any
    device: torch.device
    names: tuple[str, ...]
    """`ori`, and the rival's name."""

    @torch.inference_mode()
    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:
        """Yield the pieces of both.

        Raises:
            UserError: if frames come back in another size.
        """
        for frames in pieces:
            yield "ori", frames
            made = frame_by_frame(self.spatial, self.device, frames)
            if made.shape != frames.shape:
                before, after = (f"{shape[1]}x{shape[2]}" for shape in (frames.shape, made.shape))
                raise UserError(
                    f"frames of {before} come back as {after}: data.resolution must be a multiple of its step"
                )
            yield self.names[1], made


@dataclass(frozen=True, kw_only=True)
class VideosRival:
    """Somebody's videos, or folders of frames, paired with the windows by name."""

    folder: Path
    names: tuple[str, ...]
    """`ori`, and the rival's name."""
    clips: Mapping[str, Path]
    """File or folder of frames by name, as `list_clips` gives them."""
    _opened: dict[str, Source] = field(default_factory=dict)

    def run(self, pieces: Iterator[Frames], clip_id: str, num_frames: int) -> Iterator[Piece]:
        """Yield the pieces of both: what was given is stored as it is.

        Raises:
            UserError: if a video is damaged, or holds another number of frames than it says.
        """
        source = self._source(clip_id)
        size = piece_frames((source.height, source.width))
        for frames in pieces:
            yield "ori", frames
        count = 0
        try:
            for frames in read_chunks(source, View(), size):
                count += len(frames)
                if count <= num_frames:
                    yield self.names[1], frames
        except MediaError as error:
            raise UserError(f"{source.path}: {error}") from None
        if count != num_frames:
            raise UserError(f"{source.path} holds {count} frames, {num_frames} are expected")

    def misfit(self, clip_id: str, frames: int, size: tuple[int, int]) -> str:
        """Say why the video of a window cannot be compared with it; empty where it can.

        Args:
            clip_id: name of the window.
            frames: how many it has.
            size: height and width in pixels.
        """
        if clip_id not in self.clips:
            return f"there is no video and no folder of frames of that name in {self.folder}"
        try:
            found = self._source(clip_id)
        except (MediaError, UserError) as error:
            return f"{self.clips[clip_id]}: {error}"
        given = (found.frames, found.height, found.width)
        if given == (frames, *size):
            return ""
        here, expected = (f"{count} frames of {height}x{width}" for count, height, width in (given, (frames, *size)))
        return f"{found.path} has {here} (height x width), expected are {expected}"

    def identity(self, clip_id: str) -> dict[str, Any]:
        """Tell by content which video was taken, and how its pixels were stored where that changed them."""
        source = self._source(clip_id)
        said = {} if source.lossless else {COPIED: source.storage}
        return {"sha256": content_sha256(source.path), **said}

    def files(self, clip_ids: Iterable[str]) -> list[str]:
        """List the files of some videos by their paths below the folder."""
        names = []
        for path in map(self.clips.__getitem__, clip_ids):
            names += [f"{path.name}/{file.name}" for file in frame_files(path)] if path.is_dir() else [path.name]
        return names

    def _source(self, clip_id: str) -> Source:
        if clip_id not in self._opened:
            self._opened[clip_id] = open_source(self.clips[clip_id])
        return self._opened[clip_id]


def given_videos(name: str, folder: Path) -> VideosRival:
    """Look at what a folder holds.

    Raises:
        UserError: if it is no folder, or holds two videos of one name.
    """
    try:
        return VideosRival(folder=folder, names=("ori", name), clips=list_clips(folder))
    except UserError as error:
        raise UserError(f"compare.{name}.videos: {error}") from None
