"""Which clips and frames a step sees is a function of the seed, the stage, the step and the position."""

from __future__ import annotations

from collections import Counter

import pytest

from video_vae.config import Stage
from video_vae.errors import UserError
from video_vae.training.plan import StagePlan, epochs_of, steps_of

FRAMES = [40, 1, 20, 33, 1, 17]
VIDEOS = [True, False, True, True, False, True]


def plan(seed: int = 0, name: str = "stage1", **settings: object) -> StagePlan:
    stage = Stage.model_validate({"steps": 10, **settings})
    return StagePlan(seed=seed, name=name, stage=stage, frames=FRAMES, videos=VIDEOS)


def trace(made: StagePlan) -> list[object]:
    drawn = [(made.window(step, at), made.noise_seed(step, at, "x")) for step in range(1, 9) for at in (0, 3)]
    return [*drawn, *(made.shape(step) for step in range(1, 9))]


def test_equal_keys_draw_equal_steps_and_any_other_key_draws_others() -> None:
    assert trace(plan()) == trace(plan())
    assert trace(plan()) != trace(plan(seed=1))
    assert trace(plan()) != trace(plan(name="stage2"))
    seeds = {plan().noise_seed(step, at, use) for step in range(50) for at in range(8) for use in ("a", "b")}
    assert len(seeds) == 800


def test_windows_lie_inside_long_enough_clips() -> None:
    made = plan(frames=(1, 33))
    for step in range(1, 400):
        shape = made.shape(step)
        for position in range(4):
            window = made.window(step, position)
            assert window.length == shape.length
            assert 0 <= window.start <= FRAMES[window.row] - window.length
            assert shape.images or VIDEOS[window.row]


def test_lengths_and_starts_are_uniform() -> None:
    made = plan(frames=(1, 33), image_share=0.0)
    lengths = Counter(made.shape(step).length for step in range(6600))
    assert set(lengths) == set(range(1, 34)) and max(lengths.values()) < 300
    starts = Counter(made.window(step, 0).start for step in range(6600) if made.shape(step).length == 33)
    assert max(starts) == 7


def test_image_share_is_kept_and_images_come_from_all_clips() -> None:
    made = plan(image_share=0.2)
    images = [step for step in range(1, 5001) if made.shape(step).images]
    assert 0.18 < len(images) / 5000 < 0.22
    rows = Counter(made.window(step, 0).row for step in images)
    assert set(rows) == set(range(6)) and min(rows.values()) > 120
    assert {made.window(step, 0).row for step in range(1, 500) if step not in images} == {0, 2, 3, 5}


def test_replacements_are_other_draws_of_the_same_length() -> None:
    made = plan(image_share=0.0)
    drawn = [made.window(3, 1, attempt) for attempt in range(6)]
    assert len(set(drawn)) > 3 and {window.length for window in drawn} == {17}


def test_scored_frames_are_distinct_and_ordered() -> None:
    made = plan(image_share=0.0)
    chosen = made.scored_frames(5, 0, 4)
    assert len(chosen) == 4 == len(set(chosen)) and chosen == sorted(chosen) and set(chosen) <= set(range(17))
    assert chosen != made.scored_frames(5, 1, 4) or chosen != made.scored_frames(6, 0, 4)
    assert made.scored_frames(5, 0, None) == made.scored_frames(5, 0, 99) == list(range(17))


def test_clips_that_are_too_short_are_said_so() -> None:
    with pytest.raises(UserError, match=r"longest .* 40 frames, stages.stage1.frames"):
        plan(frames=(41, 50))
    with pytest.raises(UserError, match="image_share: 1"):
        StagePlan(seed=0, name="stage1", stage=Stage(steps=1), frames=[1], videos=[False])


def test_longest_length_is_cut_to_the_clips_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    made = plan(frames=(1, 64))
    assert made.longest == 40 and "40" in caplog.text


def test_epochs_and_steps_are_turned_into_each_other() -> None:
    stage = Stage(epochs=3, global_batch=8)
    assert steps_of(stage, 100) == 38
    assert epochs_of(stage, 38, 100) == pytest.approx(3.04)
    assert steps_of(Stage(steps=5), 100) == 5
