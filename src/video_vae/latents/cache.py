"""Cache of the spatial VAE's posterior moments: every frame of every clip, encoded once, read by random windows.

A cache is a set of safetensors files, one per shard. A file holds one tensor per clip, (T,8,h,w): means and
log-variances of the unscaled spatial latents, stacked on the channels. Frames are rows, so that a window is one
contiguous piece of the file, and files are memory-mapped, so that only that piece is read. Every row has a checksum,
compared each time that the row is read.

Where training looks at random parts of the frames (`data.crop: random`), a clip has a tensor of its whole frames for
each of `data.scales`, of which windows are cut on the latents' grid; with `data.flip` another of the mirrored frames,
since the latents of a mirrored picture are not the mirrored latents.
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
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from video_vae.data.sampling import Sampling
from video_vae.data.view import View
from video_vae.errors import UserError
from video_vae.files import atomic_path
from video_vae.latents.pieces import CHECKSUMS, LatentPiece, Stamp, broken, opened, stamp_of

log = logging.getLogger(__name__)

FORMAT = "video-vae latents 2"
UNCHECKED = "video-vae latents 1"
"""Files of an earlier version, without checksums."""
NOTE = "video_vae_latents"
CHANNELS = 8
Dtype = Literal["float16", "float32"]
_USUAL = {"crop": "center", "flip": False}
"""What notes leave out."""
_CODES: dict[str, str] = {"float16": "F16", "float32": "F32"}


def entry(clip_id: str, view: View | None) -> str:
    """Name the tensor that holds what a view looks at; no clip has a name with a slash."""
    if view is None:
        return clip_id
    scale = "" if view.place is None else f"/x{float(view.zoom)!r}"
    return clip_id + scale + ("/flip" if view.flip else "")


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


def moments(rows: NDArray[Any]) -> Tensor:
    """Turn stored rows (T,8,h,w) into a window: float32 (8,T,h,w), means before log-variances."""
    return torch.from_numpy(rows).float().transpose(0, 1).contiguous()


def cached_size(path: Path) -> tuple[int, int]:
    """Read at which height and width a cache's file saw frames, in pixels.

    Raises:
        UserError: if it is missing, damaged or no latent cache.
    """
    try:
        height, width = _note(path, opened(str(path), stamp_of(path)).metadata())["resolution"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise broken(path, error) from None
    return height, width


def _note(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Read what a file says of itself."""
    if (metadata or {}).get("format") not in (FORMAT, UNCHECKED):
        raise UserError(f"{path} is not a latent cache; make one with encode-latents")
    note: dict[str, Any] = json.loads((metadata or {})[NOTE])
    return note


class LatentCache:
    """Read windows of the cached moments; can be handed to worker processes.

    Args:
        files: the cache's files, one per shard.
        spatial_sha256: `weights_sha256` of the spatial VAE in use; moments of another one are refused.
        resolution: height and width in use, in pixels; moments of another size are refused.
        zoom: enlargement in use; moments of another one are refused.
        sampling: in use; moments of other frames are refused.
        crop, scales, flip: how training looks at the frames; moments that do not hold that are refused.

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
        crop: Literal["center", "random"] | None = None,
        scales: Sequence[float] = (),
        flip: bool = False,
    ) -> None:
        self._stamps: dict[Path, Stamp] = {}
        self._places: dict[str, tuple[Path, int, int]] = {}
        self._frames: dict[str, int] = {}
        self._unchecked: set[Path] = set()
        self._latent_size: tuple[int, int] | None = None
        self._cut = (0, 0)
        self.failed: dict[str, str] = {}
        """Clips that could not be encoded, and why."""
        self.dtypes: set[str] = set()
        """Number formats of the stored moments."""
        wanted: dict[str, Any] = {"spatial_sha256": spatial_sha256, "zoom": zoom, "crop": crop, "flip": flip or None}
        wanted["resolution"] = None if resolution is None else list(resolution)
        wanted["scales"] = list(scales) if crop == "random" else None
        wanted = {key: value for key, value in wanted.items() if value is not None}
        if sampling is not None:
            wanted |= {"frame_interval": sampling.frame_interval, "fps": sampling.fps}
        for file in map(Path, files):
            note = self._read_note(file)
            _check_note(file, note, wanted)
            self.failed |= note["failed"]
            self.dtypes.add(str(note.get("dtype")))
            self._cut = (note["resolution"][0] // 8, note["resolution"][1] // 8)
        if not self._places:
            raise UserError("the latent cache holds no clips; give its .safetensors files, made by encode-latents")

    @property
    def clip_ids(self) -> list[str]:
        """Names of the clips, in the order of the files."""
        return list(self._frames)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of a window's latents."""
        return self._cut

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def num_frames(self, clip_id: str) -> int:
        """Count the cached frames of a clip: those that the model sees.

        Raises:
            UserError: if the clip is not in the cache.
        """
        if clip_id not in self._frames:
            raise self._lacking(clip_id)
        return self._frames[clip_id]

    def window(self, clip_id: str, start: int, length: int, view: View | None = None) -> Tensor:
        """Read moments of frames `start` to `start + length`: float32 (8,length,h,w), means before log-variances.

        Of whole frames, the part that `view` looks at, to the next multiple of 8 pixels.

        Raises:
            UserError: if the clip is not in the cache, or its file changed or broke meanwhile.
            ValueError: if the window does not lie within the clip.
        """
        return moments(self.piece(clip_id, start, length, view).fetch())

    def piece(self, clip_id: str, start: int, length: int, view: View | None = None) -> LatentPiece:
        """Say what `window` reads, for whoever reads it.

        Raises:
            UserError: if the clip is not in the cache.
            ValueError: if the window does not lie within the clip.
        """
        name = entry(clip_id, view)
        if name not in self._places:
            raise self._lacking(clip_id)
        path, first, frames = self._places[name]
        if not 0 <= start < start + length <= frames:
            raise ValueError(f"{clip_id}: frames {start} to {start + length} asked for, {frames} cached")
        return LatentPiece(
            path=str(path),
            stamp=self._stamps[path],
            name=name,
            start=start,
            length=length,
            checksum=None if path in self._unchecked else first + start,
            cut=self._cut,
            view=view,
        )

    def _lacking(self, clip_id: str) -> UserError:
        why = f" ({self.failed[clip_id]})" if clip_id in self.failed else ""
        return UserError(
            f"clip {clip_id} is not in the latent cache{why}; run encode-latents on it, or set latents.cache: off"
        )

    def _read_note(self, path: Path) -> dict[str, Any]:
        try:
            self._stamps[path] = stamp_of(path)
            stored = opened(str(path), self._stamps[path])
            metadata = stored.metadata()
            note = _note(path, metadata)
            if metadata["format"] == UNCHECKED:
                self._unchecked.add(path)
                log.warning("%s has no checksums; delete it and encode the clips again, so that damage is found", path)
            rows = 0
            for clip_id in stored.offset_keys():
                if clip_id != CHECKSUMS:
                    rows += self._add(path, clip_id, rows, stored.get_slice(clip_id).get_shape())
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise broken(path, error) from None
        return note

    def _add(self, path: Path, clip_id: str, first: int, shape: Sequence[int]) -> int:
        if clip_id in self._places:
            raise UserError(f"clip {clip_id} is in both {self._places[clip_id][0]} and {path}; give one cache only")
        size = (shape[2], shape[3]) if len(shape) == 4 and shape[1] == CHANNELS else None
        is_whole = "/x" in clip_id
        if size is None or (not is_whole and (self._latent_size or size) != size):
            raise UserError(
                f"{path}: {clip_id} has shape {list(shape)}, not that of the other clips; encode them again"
            )
        self._latent_size = size
        self._places[clip_id] = (path, first, shape[0])
        self._frames[clip_id.partition("/")[0]] = shape[0]
        return shape[0]


def _check_note(path: Path, note: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        found = note.get(key, _USUAL.get(key))
        if found != value:
            raise UserError(f"{path} was made with {key} {found}, not {value}; encode the clips again")
