"""Cache of the spatial VAE's posterior moments: every frame of every clip, encoded once, read by random windows.

A cache is a set of safetensors files, one a shard. A file holds one tensor a clip, (T,8,h,w): means and
log-variances of the unscaled spatial latents, stacked on the channels. Frames are rows, so that a window is one
contiguous piece of the file, and files are memory-mapped, so that only that piece is read. Every row has a checksum,
compared each time that the row is read.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from video_vae.data.sampling import Sampling
from video_vae.errors import UserError
from video_vae.files import atomic_path

log = logging.getLogger(__name__)

FORMAT = "video-vae latents 2"
UNCHECKED = "video-vae latents 1"
"""Files of an earlier version, without checksums."""
CHECKSUMS = "/crc32"
"""Tensor of the rows' checksums, in the order of the file; no clip has such a name."""
NOTE = "video_vae_latents"
CHANNELS = 8
Dtype = Literal["float16", "float32"]
_CODES: dict[str, str] = {"float16": "F16", "float32": "F32"}


def write_latents(
    path: str | Path, parts: Mapping[str, Path], shapes: Mapping[str, tuple[int, ...]], dtype: Dtype, note: Any
) -> None:
    """Join raw parts (clip id -> file of little-endian numbers) into one cache file, whole or not at all.

    Written piece by piece: memory does not grow with the clips. `note` is anything that JSON can hold.
    """
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, NOTE: json.dumps(note, sort_keys=True, separators=(",", ":"))}
    }
    offset = 0
    rows = sum(shapes[clip_id][0] for clip_id in parts)
    shaped = {clip_id: (_CODES[dtype], shapes[clip_id], np.dtype(dtype).itemsize) for clip_id in parts}
    for name, (code, shape, itemsize) in (shaped | {CHECKSUMS: ("I64", (rows,), 8)}).items():
        size = int(np.prod(shape)) * itemsize
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as aside, aside.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        checksums: list[int] = []
        for clip_id, part in parts.items():
            row = int(np.prod(shapes[clip_id][1:])) * np.dtype(dtype).itemsize
            with part.open("rb") as source:
                while piece := source.read(row):
                    checksums.append(zlib.crc32(piece))
                    stream.write(piece)
        stream.write(np.array(checksums, dtype="<i8").data)
        if stream.tell() != 8 + len(text) + offset:
            raise ValueError(f"{path}: the parts hold {stream.tell() - 8 - len(text)} bytes, not {offset}")


class LatentCache:
    """Read windows of the cached moments; can be handed to worker processes.

    Args:
        files: the cache's files, one a shard.
        spatial_sha256: `weights_sha256` of the spatial VAE in use; moments of another one are refused.
        resolution: height and width in use, in pixels; moments of another size are refused.
        zoom: enlargement in use; moments of another one are refused.
        sampling: in use; moments of other frames are refused.

    Raises:
        UserError: if a file is missing, damaged, not a cache, made with other settings, or repeats a clip.
    """

    def __init__(
        self,
        files: Iterable[str | Path],
        *,
        spatial_sha256: str | None = None,
        resolution: Sequence[int] | None = None,
        zoom: float | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._handles: dict[Path, Any] = {}
        self._places: dict[str, tuple[Path, int, int]] = {}
        self._unchecked: set[Path] = set()
        self._latent_size: tuple[int, int] | None = None
        self.failed: dict[str, str] = {}
        """Clips that could not be encoded, and why."""
        self.dtypes: set[str] = set()
        """Number formats of the stored moments."""
        wanted: dict[str, Any] = {"spatial_sha256": spatial_sha256, "zoom": zoom}
        wanted["resolution"] = None if resolution is None else list(resolution)
        wanted = {key: value for key, value in wanted.items() if value is not None}
        if sampling is not None:
            wanted |= {"frame_interval": sampling.frame_interval, "fps": sampling.fps}
        for file in map(Path, files):
            note = self._read_note(file)
            _check_note(file, note, wanted)
            self.failed |= note["failed"]
            self.dtypes.add(str(note.get("dtype")))
        if not self._places:
            raise UserError("the latent cache holds no clips; give its .safetensors files, made by encode-latents")

    @property
    def clip_ids(self) -> list[str]:
        """Names of the clips, in the order of the files."""
        return list(self._places)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        assert self._latent_size is not None  # noqa: S101 (set with the first clip; __init__ wants one)
        return self._latent_size

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def num_frames(self, clip_id: str) -> int:
        """Count the cached frames of a clip: those that the model sees.

        Raises:
            UserError: if the clip is not in the cache.
        """
        return self._place(clip_id)[2]

    def window(self, clip_id: str, start: int, length: int) -> Tensor:
        """Read moments of frames `start` to `start + length`: float32 (8,length,h,w), means before log-variances.

        Raises:
            UserError: if the clip is not in the cache, or its file changed or broke meanwhile.
            ValueError: if the window does not lie within the clip.
        """
        path, first, frames = self._place(clip_id)
        if not 0 <= start < start + length <= frames:
            raise ValueError(f"{clip_id}: frames {start} to {start + length} asked for, {frames} cached")
        try:
            stored = self._open(path)
            piece = stored.get_slice(clip_id)[start : start + length]
            if path not in self._unchecked:
                checksums = stored.get_slice(CHECKSUMS)[first + start : first + start + length].tolist()
                if checksums != [zlib.crc32(row) for row in piece.numpy()]:
                    raise ValueError(f"frames {start} to {start + length} of {clip_id} are not what was written")
        except (SafetensorError, OSError, ValueError) as error:
            raise _broken(path, error) from None
        return torch.as_tensor(piece).float().transpose(0, 1).contiguous()

    def _place(self, clip_id: str) -> tuple[Path, int, int]:
        """Return a clip's file, the number of its first row there, and of its rows."""
        try:
            return self._places[clip_id]
        except KeyError:
            why = f" ({self.failed[clip_id]})" if clip_id in self.failed else ""
            raise UserError(
                f"clip {clip_id} is not in the latent cache{why}; run encode-latents on it, or set latents.cache: off"
            ) from None

    def _open(self, path: Path) -> Any:
        if path not in self._handles:
            self._handles[path] = safe_open(path, framework="pt")
        return self._handles[path]

    def _read_note(self, path: Path) -> dict[str, Any]:
        try:
            stored = self._open(path)
            metadata = stored.metadata() or {}
            if metadata.get("format") not in (FORMAT, UNCHECKED):
                raise UserError(f"{path} is not a latent cache; make one with encode-latents")
            if metadata["format"] == UNCHECKED:
                self._unchecked.add(path)
                log.warning("%s has no checksums; delete it and encode the clips again to have damage noticed", path)
            rows = 0
            for clip_id in stored.offset_keys():
                if clip_id != CHECKSUMS:
                    rows += self._add(path, clip_id, rows, stored.get_slice(clip_id).get_shape())
            note: dict[str, Any] = json.loads(metadata[NOTE])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise _broken(path, error) from None
        return note

    def _add(self, path: Path, clip_id: str, first: int, shape: Sequence[int]) -> int:
        if clip_id in self._places:
            raise UserError(f"clip {clip_id} is in both {self._places[clip_id][0]} and {path}; give one cache only")
        size = (shape[2], shape[3]) if len(shape) == 4 and shape[1] == CHANNELS else None
        if size is None or (self._latent_size or size) != size:
            raise UserError(
                f"{path}: {clip_id} has shape {list(shape)}, not that of the other clips; encode them again"
            )
        self._latent_size = size
        self._places[clip_id] = (path, first, shape[0])
        return shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}  # every process maps the files itself


def _check_note(path: Path, note: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if note.get(key) != value:
            raise UserError(f"{path} was made with {key} {note.get(key)}, not {value}; encode the clips again")


def _broken(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file; make it with encode-latents")
    return UserError(f"{path} is damaged ({' '.join(str(error).split())}); delete it and encode the clips again")
