"""Training may look at random, mirrored parts of the frames, by the step alone, from pixels and from the cache."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training_material import BASE, STAGE, log_lines, make_data, options, train_here, weights
from video_vae.cli import main
from video_vae.config import Data, Spatial, Stage
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import read_clip
from video_vae.data.view import View, corner, covering, whole_size
from video_vae.errors import TIME_UP_STATUS, UserError
from video_vae.latents.cache import LatentCache
from video_vae.training.datasets import LatentSource, PixelSource
from video_vae.training.plan import StagePlan, Window
from video_vae.weights.loading import load_spatial

RANDOM: dict[str, Any] = {"resolution": [32, 32], "crop": "random", "scales": [1.0, 1.5], "flip": True}
FRAMES, VIDEOS = [40, 1, 20, 33], [True, False, True, True]


def plan(data: Data, seed: int = 0) -> StagePlan:
    stage = Stage.model_validate({"steps": 10, "frames": [1, 17]})
    return StagePlan(seed=seed, name="stage1", stage=stage, frames=FRAMES, videos=VIDEOS, data=data)


def settings(**changes: Any) -> str:
    return json.dumps({**BASE, "data": RANDOM, "stages": {"stage1": {**STAGE, **changes}}})


def encode(folder: Path, output: Path, config: str) -> int:
    tables = [f"--data-path={folder / name}" for name in ("train.csv", "test.csv")]
    return main(["encode-latents", config, *tables, f"--spatial={folder / 'spatial'}", f"--output={output}"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and a cache of whole and mirrored frames at two scales."""
    folder = tmp_path_factory.mktemp("views")
    make_data(folder)
    assert encode(folder, folder / "whole.safetensors", settings()) == 0
    return folder


def test_views_are_drawn_by_the_step_and_spread_evenly() -> None:
    made, again = plan(Data(**RANDOM)), plan(Data(**RANDOM))
    views = [made.window(step, at).view for step in range(1, 501) for at in range(4)]
    assert views == [again.window(step, at).view for step in range(1, 501) for at in range(4)]
    assert views[:40] != [
        plan(Data(**RANDOM), seed=1).window(step, at).view for step in range(1, 11) for at in range(4)
    ]
    assert all(view is not None and view.place is not None for view in views)
    seen = [view for view in views if view is not None]
    for counts in (Counter(view.zoom for view in seen), Counter(view.flip for view in seen)):
        assert len(counts) == 2 and min(counts.values()) > 900
    across, down = np.array([view.place for view in seen]).T
    assert np.abs(np.histogram2d(across, down, bins=4, range=[[0, 1], [0, 1]])[0] - 125).max() < 50


def test_the_centre_is_seen_where_nothing_else_is_asked_for_and_clips_stay_the_same() -> None:
    centre, random = plan(Data()), plan(Data(**RANDOM))
    for step in range(1, 50):
        one, other = centre.window(step, 0), random.window(step, 0)
        assert one.view is None and (one.row, one.start, one.length) == (other.row, other.start, other.length)


def test_crops_lie_inside_at_every_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape, resolution = tuple(rng.integers(20, 300, 2)), (64, 96)
        size = covering(shape, resolution, float(rng.uniform(1, 3)))
        for place in (None, (0.0, 0.0), (0.999999, 0.999999), tuple(rng.random(2))):
            for flip in (False, True):
                top, left = corner(size, resolution, place, flip=flip)
                assert 0 <= top <= size[0] - 64 and 0 <= left <= size[1] - 96
    assert corner((10, 20), (4, 4), (0.0, 0.0)) == (0, 0)
    assert corner((10, 20), (4, 4), (0.9999, 0.9999)) == (6, 16)
    assert corner((10, 20), (4, 4), (0.0, 0.25), flip=True) == (0, 12)


def test_pixels_are_those_of_the_part_that_is_looked_at(data: Path) -> None:
    clips = read_table(data / "train.csv")
    source = PixelSource(clips, (32, 32), Sampling())
    frames = read_clip(clips[0], [2, 3])
    whole = resize_crop(frames, (48, 56))  # the clips' own size: 1.5 times what covers 32x32
    view = View(zoom=1.5, place=(0.5, 0.25), flip=True)
    top, left = corner((48, 56), (32, 32), view.place)
    expected = to_tensor(whole[:, top : top + 32, left : left + 32][:, :, ::-1])
    assert torch.equal(source.read(Window(row=0, start=2, length=2, view=view)), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_cached_windows_are_cut_from_the_latents_of_whole_frames(data: Path, zoom: float, flip: bool) -> None:
    clips = read_table(data / "train.csv")
    cache = LatentCache([data / "whole.safetensors"], crop="random", scales=(1.0, 1.5), flip=True)
    assert sorted(cache.clip_ids) == sorted(clip.clip_id for clip in clips)  # and none that is held out
    net = load_spatial(Spatial(pretrained=None), data / "spatial")
    row = next(row for row, clip in enumerate(clips) if clip.clip_id == "bb")
    sides = whole_size((48, 56), (32, 32), zoom)
    size = covering((48, 56), (32, 32), zoom)
    trim = (size[1] - sides[1]) // 2
    frames = resize_crop(read_clip(clips[row], [3, 4]), size)[:, :, trim : trim + sides[1]]
    with torch.no_grad():
        pixels = to_tensor(frames[:, :, ::-1] if flip else frames).transpose(0, 1)
        moments = net.encode(pixels).latent_dist.parameters.transpose(0, 1)
    view = View(zoom=zoom, place=(0.6, 0.7), flip=flip)
    top, left = corner((sides[0] // 8, sides[1] // 8), (4, 4), view.place, flip=flip)
    window = LatentSource(clips, cache).read(Window(row=row, start=3, length=2, view=view))
    assert window.shape == (8, 2, 4, 4)
    torch.testing.assert_close(window, moments[:, :, top : top + 4, left : left + 4], rtol=1e-3, atol=1e-2)


def test_a_cache_of_other_views_is_refused(data: Path, tmp_path: Path) -> None:
    whole, centre = data / "whole.safetensors", data / "latents.safetensors"
    for file, wanted, said in (
        (whole, {"crop": "center"}, "crop random, not center"),
        (whole, {"crop": "random", "scales": (1.0, 2.0)}, r"scales \[1.0, 1.5\], not \[1.0, 2.0\]"),
        (centre, {"crop": "random", "scales": (1.0,)}, "crop center, not random"),
        (centre, {"flip": True}, "flip False, not True"),
    ):
        with pytest.raises(UserError, match=f"{said}; encode the clips again"):
            LatentCache([file], **wanted)


def test_mirrored_centres_are_cached_too(data: Path, tmp_path: Path) -> None:
    config = json.dumps({**BASE, "data": {"resolution": [32, 32], "flip": True}, "latents": {"dtype": "float32"}})
    assert encode(data, tmp_path / "flips.safetensors", config) == 0
    cache = LatentCache([tmp_path / "flips.safetensors"], crop="center", flip=True)
    net = load_spatial(Spatial(pretrained=None), data / "spatial")
    clip = read_table(data / "train.csv")[0]
    frames = resize_crop(read_clip(clip, [1]), (32, 32))[:, :, ::-1]
    with torch.no_grad():
        moments = net.encode(to_tensor(frames).transpose(0, 1)).latent_dist.parameters.transpose(0, 1)
    window = cache.window(clip.clip_id, 1, 1, View(zoom=1.0, flip=True))
    torch.testing.assert_close(window, moments, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_training_on_random_parts_goes_on_as_if_never_cut_off(data: Path, tmp_path: Path, is_cached: bool) -> None:
    latents = ["--latents", str(data / "whole.safetensors")] if is_cached else []
    config = settings(steps=3)
    train_here(options(data, tmp_path / "whole" / "out", *latents, config=config))
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            train_here(options(data, tmp_path / "cut" / "out", *latents, "--max-hours", "0", config=config))
        assert ended.value.code == TIME_UP_STATUS
    train_here(options(data, tmp_path / "cut" / "out", *latents, config=config))
    one, other = weights(tmp_path / "cut" / "out"), weights(tmp_path / "whole" / "out")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert [line["step"] for line in log_lines(tmp_path / "whole" / "out" / "log.jsonl", "valid")] == [0, 3]


def test_random_parts_train_other_weights_and_the_validation_stays_at_the_centre(data: Path, tmp_path: Path) -> None:
    latents = ["--latents", str(data / "latents.safetensors")]
    plain = json.dumps({**BASE, "stages": {"stage1": {**STAGE, "steps": 1}}})
    train_here(options(data, tmp_path / "centre", *latents, config=plain))
    train_here(options(data, tmp_path / "random", config=settings(steps=1)))
    first = [log_lines(tmp_path / name / "log.jsonl", "valid")[0] for name in ("centre", "random")]
    assert first[0]["psnr_latent"] == pytest.approx(first[1]["psnr_latent"], abs=0.02)  # the cache holds float16
    losses = [log_lines(tmp_path / name / "log.jsonl", "train")[0]["loss"] for name in ("centre", "random")]
    assert abs(losses[0] / losses[1] - 1) > 1e-3


def test_clips_smaller_than_the_window_are_named(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = json.loads(settings(steps=1))
    config["data"] |= {"scales": [1.0, 2.0]}
    train_here(options(data, tmp_path / "out", config=json.dumps(config)))
    assert (
        "4 of 4 clips are enlarged, since they have fewer pixels" in caplog.text and "a, bb, ccc, still" in caplog.text
    )
