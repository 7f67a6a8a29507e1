"""Prepared clips show training what the clips show it: frame by frame, exactly where they are lossless."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clips import write_video
from reading import make_clip
from training_material import make_data, options, settings, train_here, weights
from video_vae.cli import main
from video_vae.config import Data
from video_vae.data import preparing
from video_vae.data.content import MediaError
from video_vae.data.identity import content_sha256
from video_vae.data.prepared import PreparedClips, read_note
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip, write_table
from video_vae.data.transform import cover
from video_vae.data.video import probe, read_clip, read_frames
from video_vae.data.view import View
from video_vae.errors import UserError
from video_vae.tar_members import read_index
from video_vae.training.datasets import PixelSource
from video_vae.training.plan import Window

DATA: dict[str, Any] = {"resolution": [32, 40], "prepare": "lossless"}
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Three clips of 96x128 pixels: two whole files, and a part of 14 frames of the third; 25 frames per second."""
    folder = tmp_path_factory.mktemp("videos")
    files = [write_video(folder / f"{name}.mp4", 20 + seed, seed=seed) for seed, name in enumerate(NAMES)]
    rows = [_row(file, name, 20 + seed) for seed, (file, name) in enumerate(zip(files, NAMES, strict=True))]
    return [*rows[:2], replace(rows[2], start_frame=5, num_frames=14)]


def _row(file: Path, name: str, frames: int) -> Clip:
    return make_clip(file, frames, clip_id=name, source_id=content_sha256(file)[:16], seconds=frames / 25)


def prepare(folder: Path, clips: list[Clip], *options: str, output: str = "p/shard_0.tar", **data: Any) -> Path:
    write_table(folder / "train.csv", clips)
    config = json.dumps({"data": {**DATA, **data}})
    where = ["--data-path", str(folder / "train.csv"), "--output", str(folder / output), "--workers", "2"]
    assert main(["prepare-clips", config, *where, *options]) == 0
    return folder / output


def sources(clips: list[Clip], shard: Path, **data: Any) -> tuple[PixelSource, PixelSource]:
    """Open the clips themselves, and as they were prepared."""
    config = Data(**{**DATA, **data})
    given = (clips, config.resolution, Sampling.of(config), config.zoom)
    return PixelSource(*given), PixelSource(*given, PreparedClips([shard], config))


def decibels(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10(((first - second) / 2).square().mean()))


@pytest.mark.parametrize("view", [None, View(zoom=1.0, flip=True)])
@pytest.mark.parametrize("data", [{}, {"zoom": 1.5}, {"fps": 10}, {"fps": 40, "frame_interval": 3}])
def test_lossless_clips_show_what_the_clips_show(
    videos: list[Clip], tmp_path: Path, data: dict[str, Any], view: View | None
) -> None:
    if view is not None:
        view = replace(view, zoom=data.get("zoom", 1.0))
    clips, prepared = sources(videos, prepare(tmp_path, videos, **data), **data)
    for row, frames in enumerate(clips.frames):
        for start in (0, frames - 3):
            window = Window(row=row, start=start, length=3, view=view)
            assert torch.equal(clips.read(window), prepared.read(window))


def test_the_prepared_file_is_the_resized_clip_frame_by_frame(videos: list[Clip], tmp_path: Path) -> None:
    shard = prepare(tmp_path, videos, crop="random", scales=[1.0, 1.6])
    for clip in videos:
        entry = read_note(shard)["clips"][clip.clip_id]
        frames = read_frames(f"{shard}::{entry['member']}", range(clip.num_frames))
        assert np.array_equal(frames, cover(read_clip(clip), (32, 40), 1.6))
        assert frames.shape[1] == 51 and entry["psnr"] is None


def test_random_parts_are_cut_of_the_prepared_frames(videos: list[Clip], tmp_path: Path) -> None:
    data: dict[str, Any] = {"crop": "random", "scales": [1.0, 1.6], "flip": True}
    clips, prepared = sources(videos, prepare(tmp_path, videos, **data), **data)
    for place in ((0.0, 0.0), (0.3, 0.9)):
        for flip in (False, True):
            large, small = (
                Window(row=2, start=4, length=5, view=View(zoom=zoom, place=place, flip=flip)) for zoom in (1.6, 1.0)
            )
            assert torch.equal(clips.read(large), prepared.read(large))
            assert decibels(clips.read(small), prepared.read(small)) > 30


def test_h264_is_near_and_says_how_near(videos: list[Clip], tmp_path: Path) -> None:
    data: dict[str, Any] = {"prepare": "h264", "resolution": [64, 80]}
    shard = prepare(tmp_path, videos, **data)
    clips, prepared = sources(videos, shard, **data)
    assert prepared.prepared is not None and len(prepared.prepared.decibels) == 3
    record = json.loads(shard.with_suffix(".run.json").read_text())
    assert record["lowest_psnr"] > 30 and record["frames"] == 20 + 21 + 14
    for row in range(3):  # the right frame is nearer than its neighbours
        true, seen = (source.read(Window(row=row, start=0, length=14)) for source in (clips, prepared))
        for frame in range(1, 13):
            errors = [decibels(true[:, other], seen[:, frame]) for other in (frame - 1, frame, frame + 1)]
            assert max(errors) == errors[1] > 27
    assert probe(f"{shard}::{read_note(shard)['clips']['a']['member']}").num_frames == 20


def test_only_new_clips_are_prepared(videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    right = preparing.iterate_clip

    def watched(clip: Clip, *rest: Any) -> Any:
        decoded.append(clip.clip_id)
        return right(clip, *rest)

    monkeypatch.setattr(preparing, "iterate_clip", watched)
    first = prepare(tmp_path, videos[:1], output="old/shard_0.tar")
    second = prepare(tmp_path, videos, "--reuse", str(tmp_path), output="new/shard_0.tar")
    assert sorted(decoded) == ["a", "b", "c"] and not list(tmp_path.rglob("*.parts"))
    third = prepare(tmp_path, videos, output="third/shard_0.tar")
    assert second.read_bytes() == third.read_bytes() != first.read_bytes()
    content = bytearray(second.read_bytes())
    start, size = read_index(second).members[read_note(second)["clips"]["b"]["member"]]
    content[start + size // 2] ^= 255
    second.unlink()  # as Snakemake does before a job; its other name stays
    second.with_name(".shard_0.tar.kept").write_bytes(content)
    decoded.clear()
    prepare(tmp_path, videos, output="new/shard_0.tar")
    assert decoded == ["b"] and second.read_bytes() == third.read_bytes()


def test_a_killed_job_goes_on(videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare(tmp_path, videos, output="whole/shard_0.tar").read_bytes()
    right = preparing._write_shard
    monkeypatch.setattr(preparing, "_write_shard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises((KeyboardInterrupt, SystemExit, AssertionError)):
        prepare(tmp_path, videos)
    monkeypatch.setattr(preparing, "_write_shard", right)
    monkeypatch.setattr(preparing, "iterate_clip", lambda *_: pytest.fail("decoded again"))
    assert prepare(tmp_path, videos).read_bytes() == whole


def test_shards_split_the_clips_and_are_read_together(videos: list[Clip], tmp_path: Path) -> None:
    files = [prepare(tmp_path, videos, "--shard", str(k), "--shards", "2", output=f"p/shard_{k}.tar") for k in range(2)]
    held = [set(read_note(file)["clips"]) for file in files]
    assert held[0] | held[1] == set(NAMES) and not held[0] & held[1]
    PreparedClips(files, Data(**DATA)).check_holds(videos)
    with pytest.raises(UserError, match="give one set of shards only"):
        PreparedClips([*files, *files], Data(**DATA))


def test_clips_that_do_not_decode_are_left_out_and_said(videos: list[Clip], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    content = bytearray(Path(videos[0].path).read_bytes())
    middle = content.index(b"mdat") + 200
    content[middle : middle + 3000] = b"\xff" * 3000
    broken.write_bytes(content)
    shard = prepare(tmp_path, [*videos, _row(broken, "broken", 20)])
    prepared = PreparedClips([shard], Data(**DATA))
    prepared.check_holds([*videos, _row(broken, "broken", 20)])
    with pytest.raises(MediaError, match="unreadable"):
        prepared.piece(_row(broken, "broken", 20), 0, 3, None)


def test_wrong_shards_are_refused(videos: list[Clip], tmp_path: Path) -> None:
    shard = prepare(tmp_path, videos[:2])
    with pytest.raises(UserError, match=r"was made with resolution \[32, 40\], not \[64, 64\]; prepare"):
        PreparedClips([shard], Data(resolution=(64, 64), prepare="lossless"))
    with pytest.raises(UserError, match="was made with prepare lossless, not h264"):
        PreparedClips([shard], Data(resolution=(32, 40), prepare="h264"))
    with pytest.raises(UserError, match="clip c is not among the prepared clips; run prepare-clips"):
        PreparedClips([shard], Data(**DATA)).check_holds(videos)
    (tmp_path / "cut.tar").write_bytes(shard.read_bytes()[:-15000])
    with pytest.raises(UserError, match=r"cut.tar is damaged"):
        PreparedClips([tmp_path / "cut.tar"], Data(**DATA))
    with pytest.raises(UserError, match=r"none.tar cannot be read"):
        PreparedClips([tmp_path / "none.tar"], Data(**DATA))


def test_a_training_on_lossless_clips_ends_in_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_data(tmp_path)
    pixels = {"objective": "pixels", "perceptual_weight": 0.0, "train_spatial": True, "steps": 2}
    plain = json.loads(settings("stage3", **pixels))
    prepared = {**plain, "data": {**plain["data"], "prepare": "lossless"}}
    train_here(options(tmp_path, tmp_path / "plain", config=json.dumps(plain), stage="stage3"))
    shard = tmp_path / "p" / "shard_0.tar"
    where = ["--data-path", str(tmp_path / "train.csv"), "--output", str(shard)]
    assert main(["prepare-clips", json.dumps(prepared), *where]) == 0
    given = options(tmp_path, tmp_path / "prepared", config=json.dumps(prepared), stage="stage3")
    with pytest.raises(UserError, match="is lossless and no prepared clips were given"):
        train_here(given)
    train_here([*given, "--prepared", str(shard)])
    first, second = (weights(tmp_path / name) for name in ("plain", "prepared"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("plain", "prepared")]
    assert records[0]["prepared"] is None and records[1]["prepared"] == {"prepare": "lossless", "psnr": None}
    assert records[0]["fingerprint"] != records[1]["fingerprint"]
