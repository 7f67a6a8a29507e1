"""Warping error and tOF on clips whose values are known, and the motion metrics and VMAF of folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metrics_material import save_clip
from video_vae.cli import main_for
from video_vae.metrics import DIS, VMAF, tof, warping_error
from video_vae.metrics.motion import carried_error, flow_difference, visible, warp

SIDE, FRAMES, STEP = 64, 6, 2
"""Pixels of a frame's side, frames, and pixels that the picture moves to the right per frame."""


def _picture(width: int, height: int = SIDE) -> Tensor:
    """Return a smooth picture (3,H,W) in [0.2, 0.8]."""
    noise = torch.from_numpy(np.random.default_rng(3).random((1, 3, height // 4, width // 4 + 1))).float()
    return 0.2 + 0.6 * functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)[0]


def _moving(steps: list[int], side: int = SIDE) -> Tensor:
    """Return a clip (T,3,side,side) whose picture lies so many pixels to the right in each frame."""
    picture = _picture(side + 2 * STEP * FRAMES, side)
    starts = [STEP * FRAMES - step for step in steps]
    return torch.stack([picture[:, :, start : start + side] for start in starts])


PAN = [STEP * step for step in range(FRAMES)]
CLIP = _moving(PAN)
SCORED = {
    "same": CLIP,
    "still": CLIP[:1].expand_as(CLIP),
    "jittered": _moving([step + (-1) ** index for index, step in enumerate(PAN)]),
    "shuffled": CLIP[[0, 3, 1, 5, 2, 4]],
    "blurred": functional.avg_pool2d(functional.pad(CLIP, (2, 2, 2, 2), mode="replicate"), 5, stride=1),
}


def _flow(x: float, y: float = 0.0, pairs: int = FRAMES - 1) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(pairs, 2, SIDE, SIDE)


def test_a_frame_carried_along_the_motion_is_the_next_one_where_both_show_it() -> None:
    carried, inside = warp(CLIP[:-1], _flow(-STEP))
    assert torch.equal(inside[0, 0].sum(0) > 0, torch.arange(SIDE) >= STEP)
    torch.testing.assert_close(carried[..., STEP:], CLIP[1:, :, :, STEP:], rtol=0, atol=1e-5)
    half, _ = warp(CLIP[:1], _flow(0.5, pairs=1))
    torch.testing.assert_close(half[..., :-1], (CLIP[:1, :, :, 1:] + CLIP[:1, :, :, :-1]) / 2, rtol=0, atol=1e-5)


def test_pixels_count_that_both_frames_show() -> None:
    assert visible(_flow(-STEP), _flow(STEP))[..., STEP:].all()
    assert not visible(_flow(-STEP), _flow(STEP))[..., :STEP].any()  # came in from the side
    assert not visible(_flow(-STEP), _flow(3 * STEP)).any()  # does not lead back
    torn = _flow(-STEP).clone()
    torn[..., SIDE // 2 :] += 1.0
    assert not visible(torn, -torn)[..., SIDE // 2 - 1].any()  # the edge of a moving thing
    assert visible(_flow(0), _flow(0.7)).all() and not visible(_flow(0), _flow(0.72)).any()  # 0.5 pixels squared


def test_the_error_of_a_known_motion_is_that_of_the_change() -> None:
    seen = visible(_flow(-STEP), _flow(STEP))
    assert carried_error(CLIP, _flow(-STEP), seen).max() < 1e-10
    flashing = CLIP + torch.tensor([0, 0.1, 0, 0, 0.2, 0.2]).view(-1, 1, 1, 1)
    wanted = [0.01, 0.01, 0.0, 0.04, 0.0]
    np.testing.assert_allclose(carried_error(flashing, _flow(-STEP), seen).numpy(), wanted, atol=1e-6)
    assert carried_error(CLIP, _flow(-STEP), torch.zeros_like(seen)).isnan().all()


def test_the_difference_of_flows_is_its_length_in_pixels() -> None:
    assert flow_difference(_flow(3, 4), _flow(0, 0)).tolist() == [5.0] * (FRAMES - 1)
    assert flow_difference(_flow(3, 4), _flow(3, 4)).tolist() == [0.0] * (FRAMES - 1)


def test_scores_of_known_clips_with_estimated_flow() -> None:
    motion = {name: float(tof(CLIP, clip, DIS()).mean()) for name, clip in SCORED.items()}
    error = {name: float(warping_error(CLIP, clip, DIS()).mean()) for name, clip in SCORED.items()}
    assert motion["same"] == 0.0 and motion["still"] == pytest.approx(STEP, rel=0.1)
    assert motion["blurred"] < 0.5 < motion["jittered"] < motion["shuffled"]
    # What follows the motion is carried onto itself, as far as the flow is right.
    assert error["same"] < error["blurred"] < 0.01 * error["still"]
    assert error["blurred"] < 0.01 * error["jittered"] and error["jittered"] < error["shuffled"]
    assert tof(CLIP[:1], CLIP[:1], DIS()).shape == warping_error(CLIP[:1], CLIP[:1], DIS()).shape == (0,)


@pytest.mark.parametrize("batch", ["1", "8"])
def test_folders_are_scored_in_pieces_as_clips_are_at_once(tmp_path: Path, batch: str) -> None:
    side = 200
    real = _moving(PAN, side)
    generated = _moving([step + (-1) ** index for index, step in enumerate(PAN)], side) * 0.9
    sides = {}
    for name, clip in (("ori", real), ("rec", generated)):
        frames = (clip.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        save_clip(tmp_path / name / "a.mkv", frames.numpy())
        sides[name] = frames.permute(0, 3, 1, 2).float() / 255
    where = ["--real_video_dir", str(tmp_path / "ori"), "--generated_video_dir", str(tmp_path / "rec")]
    chosen = ["--metric", "psnr", "vmaf", "warping_error", "tof", "--device", "cpu", "--batch_size", batch]
    assert main_for("evaluate", [*where, *chosen, "--output_dir", str(tmp_path / "scores")]) == 0
    found = pd.read_parquet(tmp_path / "scores/frames.parquet")
    pair = sides["ori"], sides["rec"]
    np.testing.assert_allclose(found["vmaf"], VMAF()(*pair), rtol=1e-4)
    for name, values in (("warping_error", warping_error(*pair, DIS())), ("tof", tof(*pair, DIS()))):
        assert np.isnan(found[name][0])
        np.testing.assert_allclose(found[name][1:], values, rtol=1e-4)
    np.testing.assert_allclose(found["motion"][:-1], [STEP] * (FRAMES - 1), rtol=0.1)
    moved = pd.read_csv(tmp_path / "scores/clips.csv")["motion"][0]
    assert np.isnan(found["motion"][FRAMES - 1]) and moved == pytest.approx(found["motion"].mean(), abs=1e-5)
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert summary["conditions"]["flow"] == "dis" and "v0.6.1" in summary["conditions"]["definitions"]["vmaf"]
    assert {"vmaf", "warping_error", "tof"} <= summary["variants"]["rec"].keys()
    rows = [f"demo:stage1:{tmp_path / 'scores/summary.json'}", "--output", str(tmp_path / "metrics.csv")]
    assert main_for("collect-metrics", rows) == 0
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["vmaf"][0] == pytest.approx(summary["variants"]["rec"]["vmaf"]["mean"], abs=1e-3)


def test_frames_too_small_for_vmaf_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ori", "rec"):
        save_clip(tmp_path / name / "a.mkv", np.zeros((2, 64, 64, 3), np.uint8))
    where = ["--real_video_dir", str(tmp_path / "ori"), "--generated_video_dir", str(tmp_path / "rec")]
    assert main_for("evaluate", [*where, "--metric", "vmaf", "--device", "cpu"]) != 0
    assert "64x64 pixels are too small for vmaf, which needs 192x192" in capsys.readouterr().err
