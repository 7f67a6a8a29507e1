"""Folders that hold the frames of one clip as images, in the order of the numbers in their names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from video_vae.data.content import MediaError
from video_vae.data.images import read_image
from video_vae.data.pixels import Frames
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

FRAME_RATE = 25.0
"""Frames per second of a folder, where nothing tells; FFmpeg takes the same."""
MIN_NUMBERED = 5
"""Fewest images that make a folder one video by their names alone."""
EXACT_SUFFIXES = frozenset({".bmp", ".pgm", ".png", ".ppm", ".tga"})
"""Images that hold the pixels as they were."""
_NUMBER = re.compile(r"(\d+)")


def is_frame_folder(folder: Path) -> bool:
    """Tell whether a folder holds images and no videos: the frames of one clip."""
    suffixes = {file.suffix.lower() for file in _visible(folder)}
    return bool(suffixes & IMAGE_SUFFIXES) and not suffixes & VIDEO_SUFFIXES


def is_numbered(folder: Path) -> bool:
    """Tell whether a folder holds frames by all appearance: images of one kind and size, numbered without a gap."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
    others = any(entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES for entry in entries)
    if others or len(files) < MIN_NUMBERED or len({file.suffix for file in files}) > 1:
        return False
    parts = [_NUMBER.split(file.stem) for file in files]
    if any(len(part) < 3 or part[:-2] != parts[0][:-2] or part[-1] != parts[0][-1] for part in parts):
        return False
    numbers = sorted(int(part[-2]) for part in parts)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len({_size(file) for file in files}) == 1


def _size(file: Path) -> tuple[int, int] | None:
    """Read width and height from an image's head; None where there are none."""
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def frame_files(folder: Path) -> list[Path]:
    """List the frames of a folder in the order of the numbers in their names (2 before 10).

    Raises:
        MediaError: if there is none, two have one name, or a number is missing between others.
    """
    files = sorted((file for file in _visible(folder) if file.suffix.lower() in IMAGE_SUFFIXES), key=_place)
    if not files:
        raise MediaError("unreadable", "a folder without images")
    for before, after in itertools.pairwise(files):
        if _place(before)[0] == _place(after)[0]:
            raise MediaError("unreadable", f"both {before.name} and {after.name} are the same frame; keep one")
    _check_numbers(files)
    return files


def _visible(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]


def _place(file: Path) -> tuple[list[str | int], str]:
    """Order by text and numbers: split, every second part of a name is a number."""
    parts = _NUMBER.split(file.stem)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file.name


def _check_numbers(files: Sequence[Path]) -> None:
    """Refuse a sequence with a hole: all frames after it would be compared with the wrong ones."""
    parts = [_NUMBER.split(file.stem) for file in files]
    if any(len(part) < 3 or part[:-2] != parts[0][:-2] or part[-1] != parts[0][-1] for part in parts):
        return
    numbers = [int(part[-2]) for part in parts]
    steps = np.diff(numbers)
    hole = next((place for place, step in enumerate(steps) if step != steps.min()), None)
    if hole is not None:
        raise MediaError(
            "unreadable",
            f"frames are missing between {files[hole].name} and {files[hole + 1].name}; put them back",
        )


def read_frame_files(files: Sequence[Path]) -> Frames:
    """Read images of one size as frames: uint8 (T,H,W,3).

    Raises:
        MediaError: if one does not decode or has another size than the first; names it.
    """
    frames: list[Frames] = []
    for file in files:
        try:
            frames.append(read_image(file))
        except MediaError as error:
            raise MediaError(error.reason, f"frame {file.name}: {error.detail}") from None
        if frames[-1].shape != frames[0].shape:
            sizes = " and ".join(f"{frame.shape[1]}x{frame.shape[2]}" for frame in (frames[-1], frames[0]))
            raise MediaError("unreadable", f"frame {file.name} and {files[0].name} differ in size: {sizes}")
    return np.concatenate(frames)
