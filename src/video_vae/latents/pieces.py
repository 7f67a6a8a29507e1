"""Rows of a latent cache that are to be read, in this process or in a worker. Imports no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from video_vae.data.view import View, corner
from video_vae.errors import UserError

CHECKSUMS = "/crc32"
"""Tensor of the rows' checksums, in the order of the file; no clip has such a name."""
Stamp = tuple[int, int, int]
"""Size, time of change in ns and inode of a file: another file of the same name is opened again."""


def stamp_of(path: Path) -> Stamp:
    """Tell a file from another one that takes its place."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=4096)
def opened(path: str, stamp: Stamp) -> Any:
    """Map a cache's file into memory, once per process."""
    del stamp
    return safe_open(path, framework="np")


@dataclass(frozen=True, kw_only=True)
class LatentPiece:
    """Rows of one tensor of a cache file."""

    path: str
    """The file."""
    stamp: Stamp
    """What it was when the cache was opened."""
    name: str
    """The tensor."""
    start: int
    """First row."""
    length: int
    """Number of rows."""
    checksum: int | None
    """Place of the first row's checksum; None where the file has none."""
    cut: tuple[int, int]
    """Height and width of a window's latents."""
    view: View | None
    """Where the window lies in latents of whole frames."""

    def fetch(self) -> NDArray[Any]:
        """Read the moments as they are stored: (T,8,h,w).

        Raises:
            UserError: if the file changed or broke meanwhile.
        """
        try:
            stored = opened(self.path, self.stamp)
            rows: NDArray[Any] = stored.get_slice(self.name)[self.start : self.start + self.length]
            if self.checksum is not None:
                checksums = stored.get_slice(CHECKSUMS)[self.checksum : self.checksum + self.length].tolist()
                if checksums != [zlib.crc32(row.data) for row in rows]:
                    clip, last = self.name.partition("/")[0], self.start + self.length
                    raise ValueError(f"frames {self.start} to {last} of {clip} are not what was written")
        except (SafetensorError, OSError, ValueError) as error:
            raise broken(Path(self.path), error) from None
        if self.view is None or self.view.place is None:
            return rows
        size = (rows.shape[2], rows.shape[3])
        top, left = corner(size, self.cut, self.view.place, flip=self.view.flip)
        return rows[:, :, top : top + self.cut[0], left : left + self.cut[1]]


def broken(path: Path, error: Exception) -> UserError:
    """Say that a cache's file is missing or damaged, and what to do."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file; make it with encode-latents")
    return UserError(f"{path} is damaged ({' '.join(str(error).split())}); delete it and encode the clips again")
