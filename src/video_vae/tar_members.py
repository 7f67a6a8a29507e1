"""Files inside tar shards, read where they lie: `shard.tar::name.mp4` names one, nothing is unpacked.

A shard is indexed once: the place and size of each member. A table of clips keeps them, so that jobs read a member
without looking through its shard again.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

MARK = "::"
"""Between a shard and the name of a member."""
SUFFIX = ".tar"
COMPRESSED = re.compile(r"\.(tar\.[a-z0-9]+|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
"""How names of compressed shards end."""
_NAMED = re.compile(rf"(.+?\.tar){MARK}(.+)", re.IGNORECASE | re.DOTALL)
_PACKERS = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""How compressed files begin, and what unpacks them."""
_BLOCK = 512
Reason = Literal["missing", "unreadable", "truncated", "damaged", "duplicate"]


class TarProblem(OSError):
    """A shard or a member cannot be used: `reason` is the word of rejected.csv, `detail` says what was seen."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Extent(NamedTuple):
    """Where a member lies: its shard, its first byte there, and its length in bytes."""

    shard: Path
    start: int
    size: int


@dataclass(kw_only=True)
class TarIndex:
    """What a shard holds."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First byte and length of each whole member, in their order."""
    refused: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    """Members that cannot be read, and why."""
    problem: tuple[Reason, str] | None = None
    """Why there may be more members than are listed."""


def member_of(path: str | Path) -> tuple[Path, str] | None:
    """Split the path of a member into its shard and its name; None where it is that of a file."""
    named = _NAMED.fullmatch(os.fspath(path))
    return (Path(named[1]), named[2]) if named else None


def file_of(path: str | Path) -> Path:
    """Return the file that holds what a path names: the shard of a member, else itself."""
    inside = member_of(path)
    return Path(path) if inside is None else inside[0]


def stem_of(path: str | Path) -> str:
    """Return what a file is called without its folder, its shard and its ending."""
    inside = member_of(path)
    return Path(path if inside is None else inside[1]).stem


def packer_of(path: Path) -> str:
    """Name the program that unpacks a compressed file; empty where it is not compressed, or cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return ""
    return next((program for start, program in _PACKERS.items() if head.startswith(start)), "")


def read_index(shard: Path) -> TarIndex:
    """List a shard's members; one that stays as it is is listed once.

    Raises:
        TarProblem: if it is missing, compressed, or no tar file.
    """
    try:
        status = shard.stat()
    except OSError:
        raise TarProblem("missing", f"no such file: {shard}") from None
    return _index(shard, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _index(shard: Path, size: int, changed: int) -> TarIndex:
    """List a shard's members (`changed` makes a new file a new key)."""
    del changed
    if program := packer_of(shard):
        cure = f"{program} -k {shard.name}" if COMPRESSED.search(shard.name) else f"unpack it once ({program})"
        raise TarProblem("unreadable", f"a compressed shard, which allows no random access; {cure}")
    index = TarIndex()
    try:
        with tarfile.open(shard, "r:") as archive:
            _list_members(archive, size, index)
            index.problem = index.problem or _missing_end(shard, archive.offset, size)
    except (tarfile.TarError, OSError, ValueError) as error:
        if not index.members and not index.refused:
            reason: Reason = "unreadable" if size >= _BLOCK else "truncated"
            raise TarProblem(reason, f"not a tar file: {' '.join(str(error).split())}") from None
        index.problem = ("truncated", "the shard ends too early; copy it again")
    return index


def _list_members(archive: tarfile.TarFile, size: int, index: TarIndex) -> None:
    for member in archive:
        name = member.name.removeprefix("./")
        end = member.offset_data + member.size
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            index.refused[name] = ("unreadable", "a link or a special file in a shard; store the file itself")
        elif end > size:
            index.refused[name] = ("truncated", f"the shard ends {end - size:,} bytes too early; copy it again")
        elif name in index.members or name in index.refused:
            index.members.pop(name, None)
            index.refused[name] = ("duplicate", "the shard holds several members of this name; rename them")
        else:
            index.members[name] = (member.offset_data, member.size)


def _missing_end(shard: Path, place: int, size: int) -> tuple[Reason, str] | None:
    """Say what stands where a tar file's list of members should end with a block of zeros."""
    if place >= size:
        return "truncated", "the shard has no end mark: members may be missing; copy it again"
    with shard.open("rb") as stream:
        stream.seek(place)
        if any(stream.read(_BLOCK)):
            return "damaged", f"no member begins at byte {place:,}: the rest of the shard cannot be read; copy it again"
    return None


_known: dict[str, tuple[int, int]] = {}


def learn(path: str, start: int, size: int) -> None:
    """Take a member's place from a table, so that its shard is not looked through for it."""
    _known[path] = (start, size)


def find(path: str | Path) -> Extent | None:
    """Find a member in its shard; None where a path is that of a file.

    Raises:
        TarProblem: if the shard or the member is missing, or cannot be used.
    """
    inside = member_of(path)
    if inside is None:
        return None
    shard, name = inside
    place = _known.get(os.fspath(path))
    if place is None:
        index = read_index(shard)
        name = name.removeprefix("./")
        if name in index.refused:
            raise TarProblem(*index.refused[name])
        if name not in index.members:
            raise TarProblem("missing", f"no member {name} in {shard}")
        place = index.members[name]
    return Extent(shard, *place)


def read_member(shard: Path, name: str) -> bytes:
    """Read a member of a shard, whatever the shard is called.

    Raises:
        TarProblem: if the shard cannot be read or has no such member.
        OSError: if the disk does not give it.
    """
    index = read_index(shard)
    if name not in index.members:
        raise TarProblem(*index.refused.get(name, ("missing", f"no member {name} in {shard}")))
    start, size = index.members[name]
    with shard.open("rb") as stream:
        stream.seek(start)
        return stream.read(size)


def header(name: str, size: int) -> tarfile.TarInfo:
    """Describe a member that is to be written: no date and no owner, so that the same files give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def byte_size(path: str | Path) -> int:
    """Return the length of a file, or of a member of a shard, in bytes.

    Raises:
        OSError: if it is missing (a TarProblem for a member).
    """
    extent = find(path)
    return Path(path).stat().st_size if extent is None else extent.size


def open_bytes(path: str | Path) -> BinaryIO:
    """Open a file, or a member of a shard, for reading.

    Raises:
        OSError: if it is missing (a TarProblem for a member).
    """
    extent = find(path)
    return Path(path).open("rb") if extent is None else io.BufferedReader(_Window(extent))


class _Window(io.RawIOBase):
    """The bytes of a member."""

    def __init__(self, extent: Extent) -> None:
        self._file = extent.shard.open("rb", buffering=0)
        self._start, self._size = extent.start, extent.size
        self._place = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read at random."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, counted from the start, from here or from the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, or what of it there are bytes for; return their number."""
        left = max(0, self._size - self._place)
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer)[:left]) or 0
        self._place += count
        return count

    def close(self) -> None:
        """Close the shard."""
        self._file.close()
        super().close()
