"""Clips are held out by source or segment, the same way each time, and never seep from one side to the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from video_vae.config import Split
from video_vae.data.split import assign_split, cut_segments, neighbours_warning
from video_vae.data.table import Clip
from video_vae.errors import UserError


def row(source: str, start: int = 0, frames: int = 64, kind: str = "video", split: str = "") -> Clip:
    values = {"clip_id": f"{source}_{start}", "path": source, "kind": kind, "source_id": source, "split": split}
    sizes = {"height": 64, "width": 64, "fps": 25.0, "aspect_ratio": 1.0, "resolution": 4096, "text": ""}
    return Clip(start_frame=start, num_frames=frames, **values, **sizes)  # type: ignore[arg-type]


def held_out(clips: Sequence[Clip]) -> list[str]:
    return [clip.clip_id for clip in clips if clip.split == "test"]


def test_the_same_seed_gives_the_same_split_in_any_order() -> None:
    clips = [row(f"video{index}") for index in range(40)]
    split = Split(test_fraction=0.25)
    once = held_out(assign_split(clips, split, seed=1))
    assert len(once) == 10
    assert sorted(once) == sorted(held_out(assign_split(clips[::-1], split, seed=1)))
    assert once != held_out(assign_split(clips, split, seed=2))


def test_all_clips_of_a_source_are_on_one_side() -> None:
    clips = [row(f"video{index}", start) for index in range(10) for start in (0, 64, 128)]
    sides = {(clip.source_id, clip.split) for clip in assign_split(clips, Split(test_fraction=0.3), seed=0)}
    assert len(sides) == 10
    assert sum(side == "test" for _, side in sides) == 3


def test_segments_that_overlap_are_on_one_side() -> None:
    clips = [row("a", start, 64) for start in range(0, 2560, 48)]  # each leans into the next: one unit
    apart = [row("b", start, 64) for start in range(0, 640, 64)]
    result = assign_split([*clips, *apart], Split(by="segment", test_fraction=0.3), seed=3)
    assert len({clip.split for clip in result if clip.source_id == "a"}) == 1
    assert len({clip.split for clip in result if clip.source_id == "b"}) == 2


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.95, 1.0])
def test_at_least_one_video_is_tested_and_one_trained_on(fraction: float) -> None:
    clips = [*(row(f"video{index}") for index in range(3)), *(row(f"image{index}", kind="image") for index in range(9))]
    result = assign_split(clips, Split(test_fraction=fraction), seed=0)
    assert {clip.split for clip in result if clip.kind == "video"} == {"train", "test"}


def test_a_table_that_says_which_side_is_obeyed() -> None:
    clips = [row("a", split="test"), row("b", split="train"), row("c"), row("a", 64)]
    result = assign_split(clips, Split(test_fraction=0.0), seed=0)
    assert [clip.split for clip in result] == ["test", "train", "train", "test"]  # the rest of a source goes with it


@pytest.mark.parametrize(
    ("clips", "split", "cure"),
    [
        ([row("a")], Split(), "data.split.by to segment"),
        ([row("a")], Split(by="segment"), "data.split.segment_frames"),
        ([row("a", split="train"), row("b", split="train")], Split(), "mark a row as test"),
        ([row("a", split="test"), row("b", kind="image")], Split(), "mark a row as train"),
    ],
)
def test_too_little_to_hold_out_names_the_cure(clips: list[Clip], split: Split, cure: str) -> None:
    with pytest.raises(UserError, match=cure):
        assign_split(clips, split, seed=0)


@pytest.mark.parametrize(
    ("frames", "lengths"), [(64, [64]), (128, [64, 64]), (100, [64, 36]), (80, [80]), (144, [64, 80]), (20, [20])]
)
def test_segments_cover_a_video_without_gap_or_overlap(frames: int, lengths: list[int]) -> None:
    pieces = cut_segments(row("a", start=5, frames=frames), 64, shortest=17)
    assert [piece.num_frames for piece in pieces] == lengths
    assert [piece.start_frame for piece in pieces] == [5 + sum(lengths[:index]) for index in range(len(lengths))]


def test_held_out_clips_of_files_that_are_trained_on_are_named() -> None:
    clips = assign_split([row(f"video{index}") for index in range(40)], Split(test_fraction=0.25), seed=1)
    sides = [[clip for clip in clips if clip.split == side] for side in ("train", "test")]
    assert neighbours_warning(*sides) == ""
    train = [row(f"film{index}.mp4", split="train") for index in range(7)]
    test = [row(f"film{index}.mp4", 64, split="test") for index in range(7)]
    assert "not held out by source: 7 of 7 held-out clips" in neighbours_warning(train, test)
    assert "(film0.mp4, film1.mp4, film2.mp4, film3.mp4, film4.mp4 and 2 more)" in neighbours_warning(train, test)
    assert "1 of 7 held-out clips" in neighbours_warning(train[:1], test)
