"""Hold clips out for testing: by source video or by segment, never by frame; the same config gives the same split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from video_vae.config import Split
from video_vae.data.table import Clip
from video_vae.errors import UserError

Unit = list[Clip]

MAX_NAMED = 5
"""Files named in a warning."""


def cut_segments(clip: Clip, length: int, shortest: int) -> list[Clip]:
    """Cut a video into pieces of `length` frames; a last piece shorter than `shortest` joins the one before."""
    if clip.kind == "image":
        return [clip]
    starts = list(range(0, clip.num_frames, length))
    if len(starts) > 1 and clip.num_frames - starts[-1] < shortest:
        starts.pop()
    ends = [*starts[1:], clip.num_frames]
    return [
        replace(clip, start_frame=clip.start_frame + start, num_frames=end - start)
        for start, end in zip(starts, ends, strict=True)
    ]


def assign_split(clips: Sequence[Clip], split: Split, seed: int) -> list[Clip]:
    """Fill in the `split` of every clip; what a table declared stays, and decides for the rest of its unit.

    A unit is a source file, or with `by: segment` the clips of one that overlap. Videos and images are held out in the
    same share; at least one video is tested and one trained on.

    Raises:
        UserError: if there are too few videos for that; tables may hold all clips out.
    """
    units = _units(clips, split.by)
    tested: set[int] = set()
    for kind in ("video", "image"):
        of_kind = [unit for unit in units if unit[0].kind == kind]
        tested |= {id(unit) for unit in _held_out(of_kind, split, seed, needed=kind == "video" or not _videos(clips))}
    sides: dict[str, str] = {}
    for unit in units:
        declared = next((clip.split for clip in unit if clip.split), "")
        side = declared or ("test" if id(unit) in tested else "train")
        sides |= {_key(clip): clip.split or side for clip in unit}
    result = [replace(clip, split=sides[_key(clip)]) for clip in clips]
    _check(result, split, [clip.split for clip in clips if clip.split])
    return result


def _key(clip: Clip) -> str:
    return f"{clip.source_id}:{clip.start_frame}:{clip.num_frames}"


def _videos(clips: Sequence[Clip]) -> list[Clip]:
    return [clip for clip in clips if clip.kind == "video"]


def _units(clips: Sequence[Clip], by: str) -> list[Unit]:
    of_source: dict[str, Unit] = defaultdict(list)
    for clip in clips:
        of_source[clip.source_id].append(clip)
    if by == "source":
        return list(of_source.values())
    units: list[Unit] = []
    for unit in of_source.values():
        end = -1
        for clip in sorted(unit, key=lambda item: (item.start_frame, item.num_frames)):
            if clip.start_frame >= end:
                units.append([])
            units[-1].append(clip)
            end = max(end, clip.start_frame + clip.num_frames)
    return units


def _held_out(units: Sequence[Unit], split: Split, seed: int, *, needed: bool) -> list[Unit]:
    """Choose among the units that no table decided: those with the smallest hashes."""
    declared = {clip.split for unit in units for clip in unit}
    free = [unit for unit in units if not any(clip.split for clip in unit)]
    count = round(split.test_fraction * len(free))
    if needed and "test" not in declared:
        count = max(count, 1)
    if needed and "train" not in declared:
        count = min(count, len(free) - 1)
    return sorted(free, key=lambda unit: _draw(seed, unit, split.by))[: max(count, 0)]


def _draw(seed: int, unit: Unit, by: str) -> str:
    key = unit[0].source_id if by == "source" else _key(unit[0])
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _check(clips: Sequence[Clip], split: Split, declared: Sequence[str]) -> None:
    """Check that both sides have clips; tables that hold all of them out are for runs that train nothing."""
    tabled, all_held_out = bool(declared), len(declared) == len(clips) and set(declared) == {"test"}
    counted = _videos(clips) or clips
    what = "video" if _videos(clips) else "image"
    for side, purpose in (("test", "to hold out"), ("train", "to train on")):
        if any(clip.split == side for clip in counted) or (side == "train" and all_held_out):
            continue
        cure = "lower data.split.segment_frames, or add clips"
        if tabled:
            cure = f"mark a row as {side} in the table's split column, or add clips"
        elif split.by == "source":
            cure = "set data.split.by to segment, or add clips" if what == "video" else "add images"
        raise UserError(f"no {what} is left {purpose} ({len(counted)} usable in all); {cure}")


def not_held_out_by_source(train: Sequence[Clip], test: Sequence[Clip]) -> list[Clip]:
    """List the held-out clips that come from a file that is also trained on."""
    trained = {clip.source_id for clip in train}
    return [clip for clip in test if clip.source_id in trained]


def neighbours_warning(train: Sequence[Clip], test: Sequence[Clip]) -> str:
    """Say that held-out clips are pieces of files that are also trained on, and of which; empty where none is."""
    shared = not_held_out_by_source(train, test)
    if not shared:
        return ""
    files = sorted({clip.path for clip in shared})
    named = ", ".join(files[:MAX_NAMED]) + (f" and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else "")
    return (
        f"not held out by source: {len(shared)} of {len(test)} held-out clips come from files that are also trained on "
        f"({named}), so their scores say little about unseen videos; give whole files to one side in the table's split "
        "column, or set data.split.by: source"
    )
