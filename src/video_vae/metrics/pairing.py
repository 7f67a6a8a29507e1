"""Pair the clips of folders by name, and say which have no partner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.errors import UserError

REAL = "real"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An original and what was generated from it."""

    clip_id: str
    """Name of the files without their ending."""
    real: Path
    generated: Mapping[str, Path]
    """File by variant; at least one."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """All pairs of some folders, by name, and what is left over."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Mapping[str, str], ...]
    """`clip_id` and `missing_from`: `real` or the variant that lacks it."""


def list_clips(folder: str | Path) -> dict[str, Path]:
    """List the videos and images of a folder by their name without its ending, in order of name.

    Raises:
        UserError: if it is not a folder, or holds two clips of one name.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"{place} is not a folder; give the folder that holds the clips")
    found: dict[str, Path] = {}
    for file in sorted(place.iterdir(), key=lambda path: path.name):
        if file.name.startswith(".") or file.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            continue
        name = file.stem.encode("utf-8", "backslashreplace").decode()
        if name in found:
            raise UserError(f"{place} holds both {found[name].name} and {file.name}: keep one clip of a name")
        found[name] = file
    return found


def variant_names(folders: Sequence[Path]) -> list[str]:
    """Name what folders hold: what follows the last `_` (`rec`, `spatial`), or more of the path where that repeats.

    Raises:
        UserError: if a folder is given twice.
    """
    choices = (
        [folder.resolve().name.rpartition("_")[2] for folder in folders],
        [folder.resolve().name for folder in folders],
        [folder.as_posix() for folder in folders],
    )
    for names in choices:
        if len(set(names)) == len(names) and all(names) and REAL not in names:
            return names
    raise UserError(f"a generated folder is given twice: {', '.join(map(str, folders))}")


def pair_clips(real: Path, generated: Mapping[str, Path], wanted: Iterable[str] | None = None) -> Pairing:
    """Pair the clips of `real` with those of each variant's folder; only the `wanted` names where they are given.

    Raises:
        UserError: if a folder is missing or ambiguous, or nothing pairs.
    """
    originals = list_clips(real)
    variants = {name: list_clips(folder) for name, folder in generated.items()}
    names = set(originals).union(*variants.values()) if wanted is None else set(wanted)
    pairs: list[Pair] = []
    unpaired: list[Mapping[str, str]] = []
    for name in sorted(names):
        found = {variant: clips[name] for variant, clips in variants.items() if name in clips}
        missing = [variant for variant in variants if variant not in found]
        if name not in originals:
            unpaired.append({"clip_id": name, "missing_from": REAL})
            continue
        unpaired += [{"clip_id": name, "missing_from": variant} for variant in missing]
        if found:
            pairs.append(Pair(clip_id=name, real=originals[name], generated=found))
    if not pairs:
        folders = ", ".join(str(folder) for folder in generated.values())
        raise UserError(
            f"no clip of {real} ({len(originals)} clips) has a partner of the same name in {folders}; "
            "files pair by name, whatever their ending"
        )
    return Pairing(pairs=tuple(pairs), unpaired=tuple(unpaired))
