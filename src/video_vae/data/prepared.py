"""Prepared clips: what training sees of each clip, at its size, in a tar shard that is read at random.

A shard holds `prepared.json`, which says what it was made with and what it holds, and a video per clip. Frame i of the
video is the i-th frame that the model sees of the clip. Frames are whole where training looks at random parts of them,
at the largest of `data.scales`; otherwise they are what the model sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from video_vae.config import Data
from video_vae.data.content import MediaError
from video_vae.data.pieces import PreparedPiece
from video_vae.data.sampling import Sampling
from video_vae.data.sharding import content_of
from video_vae.data.table import Clip
from video_vae.data.view import View, covering
from video_vae.errors import UserError
from video_vae.foreign import PREPARED
from video_vae.tar_members import MARK, TarProblem, read_index, read_member

FORMAT = f"{PREPARED} 1"
"""Raised where the same clip and settings would give another file."""
NOTE = "prepared.json"
"""First member of a shard."""


def settings_of(data: Data) -> dict[str, Any]:
    """Return all that shapes prepared clips; JSON-like."""
    sampling = Sampling.of(data)
    settings: dict[str, Any] = {"format": FORMAT, "prepare": data.prepare, "resolution": list(data.resolution)}
    settings |= {"crop": data.crop, "zoom": max(data.scales) if data.crop == "random" else data.zoom}
    return settings | {"frame_interval": sampling.frame_interval, "fps": sampling.fps}


def stored_size(settings: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Give the height and width of the prepared frames of a clip of a size, in pixels."""
    resolution = (settings["resolution"][0], settings["resolution"][1])
    return covering((height, width), resolution, settings["zoom"]) if settings["crop"] == "random" else resolution


def read_note(shard: Path) -> dict[str, Any]:
    """Read what a shard says of itself.

    Raises:
        UserError: if it is missing, damaged, or no shard of prepared clips.
    """
    try:
        index = read_index(shard)
        if NOTE not in index.members:
            raise UserError(f"{shard} holds no prepared clips; make them by `video-vae prepare-clips`")
        if index.problem is not None or index.refused:
            _, why = index.problem or next(iter(index.refused.values()))
            raise UserError(f"{shard} is damaged ({why}); delete it and prepare the clips again")
        note: dict[str, Any] = json.loads(read_member(shard, NOTE))
    except (TarProblem, ValueError) as error:
        raise UserError(f"{shard} cannot be read ({error}); make it by `video-vae prepare-clips`") from None
    return note


def noted_size(shard: Path) -> tuple[int, int]:
    """Read at which height and width a shard's clips were prepared, in pixels.

    Raises:
        UserError: if it is missing, damaged, or no shard of prepared clips.
    """
    height, width = read_note(shard)["settings"]["resolution"]
    return height, width


class PreparedClips:
    """Read windows of prepared clips; can be handed to worker processes.

    Args:
        files: the shards.
        data: the settings in use; clips that were prepared with others are refused.

    Raises:
        UserError: if a file is missing, damaged, of other settings, or repeats a clip.
    """

    def __init__(self, files: Iterable[Path], data: Data) -> None:
        self._settings = settings_of(data)
        self._clips: dict[str, Clip] = {}
        self._made_of: dict[str, list[Any]] = {}
        self.kind = data.prepare
        self.failed: dict[str, str] = {}
        """Clips that could not be prepared, and why."""
        self.decibels: list[float] = []
        """PSNR of the clips that are not stored exactly."""
        for file in files:
            note = read_note(file)
            for key, value in self._settings.items():
                if note["settings"].get(key) != value:
                    found = note["settings"].get(key)
                    raise UserError(f"{file} was made with {key} {found}, not {value}; prepare the clips again")
            self.failed |= note["failed"]
            places = read_index(file).members
            for clip_id, entry in note["clips"].items():
                self._add(file, clip_id, entry, places)

    def _add(self, file: Path, clip_id: str, entry: Mapping[str, Any], places: Mapping[str, tuple[int, int]]) -> None:
        if clip_id in self._clips:
            raise UserError(f"clip {clip_id} is in {self._clips[clip_id].path} and {file}; give one set of shards only")
        if entry["member"] not in places:
            raise UserError(f"{file} is damaged: it lacks {entry['member']}; delete it and prepare the clips again")
        offset, size = places[entry["member"]]
        self._made_of[clip_id] = entry["of"]
        if entry["psnr"] is not None:
            self.decibels.append(entry["psnr"])
        height, width = entry["height"], entry["width"]
        self._clips[clip_id] = Clip(
            clip_id=clip_id,
            path=f"{file}{MARK}{entry['member']}",
            kind="video",
            source_id=entry["sha256"][:16],
            start_frame=0,
            num_frames=entry["frames"],
            height=height,
            width=width,
            fps=None,
            aspect_ratio=height / width,
            resolution=height * width,
            text="",
            split="",
            offset=offset,
            bytes=size,
        )

    def check_holds(self, clips: Iterable[Clip]) -> None:
        """See that every video of a table was prepared, as it is listed now.

        Raises:
            UserError: which names one that was not.
        """
        for clip in clips:
            if clip.kind == "image" or clip.clip_id in self.failed:
                continue
            if self._made_of.get(clip.clip_id) != content_of(clip):
                cure = "run prepare-clips on the table, or set data.prepare: none"
                raise UserError(f"clip {clip.clip_id} is not among the prepared clips; {cure}")

    def piece(self, clip: Clip, start: int, length: int, view: View | None) -> PreparedPiece:
        """Say what is to be read of a clip, from the `start`-th frame that the model sees, for whoever reads it.

        Raises:
            MediaError: if the clip could not be prepared.
        """
        if clip.clip_id in self.failed:
            raise MediaError("unreadable", self.failed[clip.clip_id])
        height, width = self._settings["resolution"]
        return PreparedPiece(
            clip=self._clips[clip.clip_id],
            start=start,
            length=length,
            resolution=(height, width),
            shape=(clip.height, clip.width) if self._settings["crop"] == "random" else None,
            view=view,
        )
