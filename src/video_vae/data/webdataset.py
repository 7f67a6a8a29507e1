"""List the clips in WebDataset shards: tar files in which the files of a sample share a name up to its first point."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from video_vae.data.candidates import Candidate, Rejected
from video_vae.data.images import UNREAD_SUFFIXES
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from video_vae.tar_members import MARK, TarProblem, learn, read_index, read_member

_MEDIA = IMAGE_SUFFIXES | VIDEO_SUFFIXES | set(UNREAD_SUFFIXES)
_CAPTION_BYTES = 1 << 20
"""Most that is read of a caption."""


def is_shard(path: Path) -> bool:
    """Tell whether a file is named as a shard."""
    return path.suffix.lower() == ".tar"


def shard_items(shard: Path, *, listed: bool) -> Iterator[Candidate | Rejected | None]:
    """Yield what a shard holds: clips with their captions, what cannot be used, None for what is neither.

    Args:
        shard: the tar file.
        listed: whether it was named itself, which wins over a mere find in a folder.
    """
    try:
        index = read_index(shard)
    except TarProblem as problem:
        yield Rejected(path=str(shard), reason=problem.reason, detail=problem.detail)
        return
    samples = {_key(name) for name in index.members if _is_media(name)}
    for name, place in index.members.items():
        path = f"{shard}{MARK}{name}"
        if _is_media(name):
            learn(path, *place)
            yield Candidate(path=path, listed=listed, text=_caption(shard, _key(name), index.members))
        elif _key(name) not in samples:
            yield None
    for name, (reason, detail) in index.refused.items():
        if _is_media(name):
            yield Rejected(path=f"{shard}{MARK}{name}", reason=reason, detail=detail)
    if index.problem is not None:
        yield Rejected(path=str(shard), reason=index.problem[0], detail=index.problem[1])


def _is_media(name: str) -> bool:
    return Path(name).suffix.lower() in _MEDIA and not Path(name).name.startswith(".")


def _key(name: str) -> str:
    """Return what the names of a sample's files have in common."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _caption(shard: Path, key: str, members: Mapping[str, tuple[int, int]]) -> str:
    """Read a sample's caption: its text file, or what its JSON has under `caption`; empty where it has none."""
    text = _read(shard, f"{key}.txt", members)
    if text.strip():
        return " ".join(text.split())
    try:
        said = json.loads(_read(shard, f"{key}.json", members) or "{}")
    except ValueError:
        return ""
    caption = said.get("caption") if isinstance(said, dict) else None
    return " ".join(caption.split()) if isinstance(caption, str) else ""


def _read(shard: Path, name: str, members: Mapping[str, tuple[int, int]]) -> str:
    fits = name in members and members[name][1] <= _CAPTION_BYTES
    return read_member(shard, name).decode(errors="replace") if fits else ""
