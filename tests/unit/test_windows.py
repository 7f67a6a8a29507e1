"""Several windows of a clip are reconstructed and scored, and the clip stays the unit."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metrics_material import bikes, save_clip
from video_vae.cli import main_for
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.windows import clip_and_start, cut_windows

CLIP = Clip(
    clip_id="a", path="a.mp4", kind="video", source_id="s", start_frame=10, num_frames=100, height=64, width=64,
    fps=25.0, aspect_ratio=1.0, resolution=4096, text="", split="test",
)  # fmt: skip


@pytest.mark.parametrize(
    ("length", "count", "frames", "interval", "starts"),
    [
        (100, 3, 33, 1, [0, 34, 67]),
        (99, 3, 33, 1, [0, 33, 66]),
        (98, 3, 33, 1, [0, 65]),  # three do not fit without overlap
        (727, 3, 33, 1, [0, 347, 694]),
        (65, 3, 33, 1, [0]),
        (20, 3, 33, 1, [0]),
        (100, 3, 33, 2, [0]),
        (200, 3, 33, 2, [0, 67, 134]),
        (100, 1, 33, 1, [0]),
        (100, 3, None, 1, [0]),
    ],
)
def test_windows_are_spread_evenly_and_do_not_overlap(
    length: int, count: int, frames: int | None, interval: int, starts: list[int]
) -> None:
    cut = list(cut_windows([replace(CLIP, num_frames=length)], count, frames, Sampling(frame_interval=interval)))
    assert [clip.clip_id for clip in cut] == ["a", *(f"a@{start}" for start in starts[1:])]
    assert [clip.start_frame for clip in cut] == [10 + start for start in starts]
    taken = [range(clip.start_frame, clip.start_frame + clip.num_frames, interval)[:frames] for clip in cut]
    assert len(taken) == 1 or all(len(window) == frames for window in taken)
    assert all(before[-1] < after[0] for before, after in itertools.pairwise(taken))
    assert taken[-1][-1] < 10 + length
    if len(taken) > 1:  # the last one ends where the clip does
        assert taken[-1][-1] > 10 + length - 1 - interval


@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 30.0, 60.0])
def test_windows_of_resampled_clips_hold_as_many_frames(fps: float) -> None:
    clip = replace(CLIP, num_frames=727, fps=fps, seconds=727 / fps)
    for sampling in (Sampling(fps=24.0), Sampling(fps=24.0, frame_interval=2)):
        cut = list(cut_windows([clip], 3, 33, sampling))
        assert len(cut) == 3 and all(sampling.count(window) >= 33 for window in cut)
        starts = [window.start_frame for window in cut]
        assert all(after - before >= 32 * sampling.step(fps) for before, after in itertools.pairwise(starts))


def test_only_windows_of_known_clips_are_windows() -> None:
    names = {"a", "b@x", "c@5", "a@12"}
    assert clip_and_start("a@12", names) == ("a", 12)
    assert clip_and_start("c@5", names) == ("c@5", 0) and clip_and_start("b@x", names) == ("b@x", 0)


def test_scores_of_windows_are_one_clips(tmp_path: Path) -> None:
    """Clip a has three windows, one of them shorter, clip b has one."""
    real, generated = bikes()
    worse = np.roll(generated, 3, axis=2)
    stored = {"a": (real, generated), "a@40": (real, worse), "a@80": (real[:3], worse[:3]), "b": (real, worse)}
    for name, sides in stored.items():
        for side, frames in zip(("ori", "rec"), sides, strict=True):
            save_clip(tmp_path / f"x_{side}/{name}.mkv", frames)
    where = [f"--real_video_dir={tmp_path}/x_ori", f"--generated_video_dir={tmp_path}/x_rec", "--device=cpu"]
    assert main_for("evaluate", [*where, "--metric", "psnr", "flicker", f"--output_dir={tmp_path}/scores"]) == 0
    scores = pd.read_parquet(tmp_path / "scores/frames.parquet")
    assert scores.groupby(["clip_id", "window"]).size().to_dict() == {
        ("a", 0): 6,
        ("a", 40): 6,
        ("a", 80): 3,
        ("b", 0): 6,
    }
    assert scores["flicker"].isna().sum() == 4  # no change is measured from one window to the next
    clips = pd.read_csv(tmp_path / "scores/clips.csv").set_index("clip_id")
    assert clips["frames"].to_dict() == {"a": 15, "b": 6}
    assert clips.loc["a", "psnr"] == pytest.approx(scores[scores["clip_id"] == "a"]["psnr"].mean(), abs=1e-5)
    said = json.loads((tmp_path / "scores/summary.json").read_text())
    assert said["variants"]["rec"]["clips"] == said["variants"]["rec"]["psnr"]["clips"] == 2
    assert said["variants"]["rec"]["psnr"]["mean"] == pytest.approx(clips["psnr"].mean(), abs=1e-5)
    assert said["conditions"]["windows"] == 4
