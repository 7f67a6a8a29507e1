"""What a training shows of itself: pictures, a profile, the share of time spent on data, slow validations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training_material import cached, log_lines, options, settings, train_here
from video_vae.config import Stage
from video_vae.errors import UserError
from video_vae.training.validation import slow_line


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    output = data / "results" / "stage1"
    train_here(options(data, output, *cached(data), "--profile", "2", config=settings(validation_clips=1)))
    return output


def test_a_profile_is_written_of_so_many_steps_after_the_first(trained: Path) -> None:
    (trace,) = trained.parent.glob("state/stage1/*/profile-000000005.json")
    names = {event.get("name") for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]}
    assert {"aten::linear", "aten::conv3d"} & names and any("Backward" in str(name) for name in names)


def test_tensorboard_shows_held_out_frames_beside_their_reconstructions(trained: Path) -> None:
    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    pictures = events.Images("valid: original and reconstruction/0")
    assert [picture.step for picture in pictures] == [0, 6]
    assert (pictures[0].width, pictures[0].height) == (64, 32)
    assert "train/data_share" in events.Tags()["scalars"]


def test_each_step_says_what_share_of_it_waited_for_data(trained: Path) -> None:
    shares = [line["data_share"] for line in log_lines(trained / "log.jsonl", "train")]
    assert len(shares) == 6 and all(0 <= share <= 1 for share in shares)


def test_so_many_clips_are_validated_on_as_the_config_says(trained: Path) -> None:
    lines = log_lines(trained / "log.jsonl", "valid")
    assert [line["windows"] for line in lines] == [{"count": 1, "shortest": 5, "longest": 5}] * 3
    assert all(line["seconds"] > 0 for line in lines)


def test_a_validation_that_takes_much_of_the_time_is_told_with_what_to_set() -> None:
    stage = Stage(steps=1000, validate_every=100)
    assert slow_line(stage, 64, seconds=1.9, between=100.0) == ""
    assert slow_line(stage, 64, seconds=1.9, between=0.0) == ""  # a training that was started again
    assert slow_line(stage, 64, seconds=8.0, between=100.0) == (
        "validating 64 windows takes 8 s, 8 % of the time between two validations; "
        "validation_clips: 16 or validate_every: 400 keeps it to 2 %"
    )
    assert "; validate_every: 5000 keeps" in slow_line(stage, 8, seconds=100.0, between=100.0)


def test_a_profile_of_fewer_than_no_steps_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--profile -1: give a number of steps"):
        train_here(options(data, tmp_path / "out", *cached(data), "--profile", "-1"))
