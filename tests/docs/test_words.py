"""The words that the lint refuses are found, and what is right is let through."""

from __future__ import annotations

import pytest

from words import all_faults, faults


@pytest.mark.parametrize(
    "text",
    [
        "16 KiB a frame",
        "shards of 40 clips a second",
        "one row an experiment",
        "2 a GPU",
        "the two are not told apart",
        "a mistyped key",
    ],
)
def test_words_that_the_field_does_not_use_are_found(text: str) -> None:
    assert [number for number, _ in faults(f"right\n{text}\n")] == [2]


@pytest.mark.parametrize(
    "text",
    ["16 KiB per frame", "17 frames a clip has", "VIDEO_VAE_PATIENCE seconds", "it takes half a second", "read a clip"],
)
def test_right_words_are_let_through(text: str) -> None:
    assert not list(faults(text))


def test_the_project_uses_the_words_of_the_field() -> None:
    assert not list(all_faults())
