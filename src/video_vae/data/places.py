"""Find the files that a list names, however their paths are written."""

from __future__ import annotations

import csv
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.config.types import address_scheme
from video_vae.data.frame_folders import is_frame_folder
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.tar_members import find, member_of

_ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
ENDINGS = (*_ENDINGS, *sorted(VIDEO_SUFFIXES - set(_ENDINGS)))
"""What may follow a name that a list gives without an ending, the most usual first."""
_WINDOWS = re.compile(r"^([A-Za-z]:[\\/]|\\\\)")
_NUMBERS = re.compile(r"(.*\S)\s+-?[\d.]+")
_MARKS = "\t,;|"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a list's files may lie: beside it, from the working folder, under the root, among the packages."""

    folders: tuple[Path, ...]

    def find(self, given: str) -> str | None:
        """Find a file or a folder of frames; None where there is none.

        Paths may be written with backslashes, as `file:` addresses, or without the ending of a video.
        """
        for text in readings(given):
            path = Path(os.path.expanduser(text))  # noqa: PTH111 (an unknown user is left as written)
            places = [path] if path.is_absolute() else [folder / path for folder in self.folders]
            found = next((place for place in places if _holds_clip(place)), None)
            if found is None and path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                endings = (Path(f"{place}{ending}") for place in places for ending in ENDINGS)
                found = next((place for place in endings if _holds_clip(place)), None)
            if found is not None:
                return str(found)
        return None


def readings(given: str) -> Iterator[str]:
    """Yield the ways to read a path: as it is written, without blanks, with slashes, from a `file:` address."""
    plain = given.strip()
    yield from dict.fromkeys(text for text in (given, plain) if text)
    if "\\" in plain:
        yield plain.replace("\\", "/")
    if plain.lower().startswith("file:"):
        yield urllib.parse.unquote(urllib.parse.urlsplit(plain).path)


def unfound(given: str) -> str:
    """Write the path of a file that is not there: by slashes, the home folder named."""
    *_, text = readings(given) if given.strip() else ("",)
    return os.path.expanduser(text)  # noqa: PTH111


def is_address(given: str) -> bool:
    """Tell whether a path is an address of something elsewhere."""
    return address_scheme(given) not in ("", "file")


def is_windows_path(given: str) -> bool:
    """Tell whether a path names a drive or a share of Windows."""
    return bool(_WINDOWS.match(given.strip()))


def leaves_folder(given: str) -> bool:
    """Tell whether a relative path leads out of the folder that it starts in."""
    return Path(os.path.normpath(unfound(given))).parts[:1] == ("..",)


def _holds_clip(path: Path) -> bool:
    try:
        if member_of(path) is not None:
            return find(path) is not None
        return path.is_file() or (path.is_dir() and is_frame_folder(path))
    except (OSError, ValueError):  # such as a name that is too long
        return False


def is_media_name(text: str) -> bool:
    """Tell whether a text ends as names of videos and images do."""
    return Path(text.strip().rstrip("'\"")).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def path_in_line(line: str, places: Places) -> tuple[str, str]:
    """Split a line of a list without columns into its path and the rest.

    Lines are bare paths, cells of a table without names, paths with numbers behind them, or FFmpeg's `file 'path'`.
    """
    quoted = re.fullmatch(r"\s*file\s+(['\"]?)(.+)\1\s*", line)
    if quoted:
        return quoted[2], ""
    if places.find(line) is not None:
        return line, ""
    for mark in (mark for mark in _MARKS if mark in line):
        cells = _cells(line, mark)
        for fits in (places.find, is_media_name):
            path = next((cell for cell in cells if cell.strip() and fits(cell)), None)
            if path is not None:
                return path, line.replace(path, "", 1).strip(f' "{mark}')
    path, rest = line, ""
    while not is_media_name(path) and (match := _NUMBERS.fullmatch(path)):
        path, rest = match[1], f"{path[match.end(1) :].strip()} {rest}".strip()
    return (path, rest) if rest and (is_media_name(path) or places.find(path)) else (line, "")


def _cells(line: str, mark: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
    except csv.Error:
        return line.split(mark)
