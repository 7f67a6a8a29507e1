"""Pair the clips of folders by name, and say which have no partner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_vae.config.types import QUANTISED
from video_vae.data.frame_folders import is_frame_folder
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.data.windows import clip_and_start
from video_vae.errors import UserError
from video_vae.files import lexical

REAL = "real"
GENERATED = "generated"
"""Name of a variant whose folder is called `real`, which is the originals' name in the results."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An original and what was generated from it."""

    name: str
    """Name of the files without their ending."""
    clip_id: str
    """Name of the clip: another one where the files hold a further window of it, CLIP@START."""
    window: int
    """First frame of that window in the clip."""
    real: Path
    generated: Mapping[str, Path]
    """File by variant; at least one."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """All pairs of some folders, by name, and what is left over."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Mapping[str, str], ...]
    """`clip_id` and `missing_from`: `real` or the variant that lacks it."""
    unread: tuple[Path, ...] = ()
    """Subfolders that hold no frames, which are not looked into."""


def list_clips(folder: str | Path) -> dict[str, Path]:
    """List the clips of a folder by name, in order of name: videos and images (without ending), folders of frames.

    Raises:
        UserError: if it is not a folder, or holds two clips of one name.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"{place} is not a folder; give the folder that holds the clips")
    found: dict[str, Path] = {}
    for file in _visible(place):
        if file.is_dir():
            if not is_frame_folder(file):
                continue
        elif file.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            continue
        name = (file.name if file.is_dir() else file.stem).encode("utf-8", "backslashreplace").decode()
        if name in found:
            raise UserError(f"{place} holds both {found[name].name} and {file.name}: keep one clip of a name")
        found[name] = file
    return found


def unread_folders(folder: str | Path) -> list[Path]:
    """List the subfolders of a folder that are no clips: those without frames, or with videos."""
    return [inner for inner in _visible(Path(folder)) if inner.is_dir() and not is_frame_folder(inner)]


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)


def _ending(name: str) -> str:
    """Return what follows the last `_` of a folder's name, or the one before for quantised latents."""
    head, _, last = name.rpartition("_")
    longer = f"{head.rpartition('_')[2]}_{last}"
    return longer if QUANTISED.fullmatch(longer) else last


def variant_names(folders: Sequence[Path], wanted: Sequence[str] | None = None) -> list[str]:
    """Name what folders hold: what follows the last `_` (`rec`, `spatial`, also `rec_q8`), or more where that repeats.

    The `wanted` names stand instead, where they are given.

    `real` is the originals' name: a folder called so is named `generated`, or by more of its path.

    Raises:
        UserError: if a folder is given twice, or the wanted names are not one for each.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise UserError(f"a generated folder is given twice: {', '.join(map(str, folders))}")
    if wanted is not None:
        if len(wanted) != len(folders) or len(set(wanted)) < len(wanted) or REAL in wanted:
            raise UserError(
                f"--variant {' '.join(wanted)}: give a name for each of the {len(folders)} generated folders, all "
                f"different, none of them {REAL}"
            )
        return list(wanted)
    given = [lexical(folder).name for folder in folders]
    choices = (
        [_ending(name) for name in given],
        given,
        [GENERATED if name == REAL else name for name in given],
        [folder.as_posix() for folder in folders],
        [place.as_posix() for place in places],
    )
    return next(names for names in choices if len(set(names)) == len(names) and all(names) and REAL not in names)


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
            clip_id, window = clip_and_start(name, originals)
            pairs.append(Pair(name=name, clip_id=clip_id, window=window, real=originals[name], generated=found))
    unread = tuple(inner for folder in (real, *generated.values()) for inner in unread_folders(folder))
    if not pairs:
        raise UserError(_nothing_pairs(real, len(originals), list(generated.values()), unread))
    return Pairing(pairs=tuple(pairs), unpaired=tuple(unpaired), unread=unread)


def _nothing_pairs(real: Path, originals: int, generated: Sequence[Path], unread: Sequence[Path]) -> str:
    text = (
        f"no clip of {real} ({originals} clips) has a partner of the same name in {', '.join(map(str, generated))}; "
        "files pair by name, whatever their ending"
    )
    return f"{text}; {unread_text(unread)}" if unread else text


def unread_text(unread: Sequence[Path]) -> str:
    """Say which subfolders were not looked into."""
    count = "subfolder" if len(unread) == 1 else f"{len(unread)} subfolders"
    return (
        f"{count} not read, such as {unread[0]}: only folders of frames (images of one clip, no videos) are clips; "
        "give the folder that holds the clips itself"
    )
