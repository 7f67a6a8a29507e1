"""Training may take several sizes, one per step by its share, from pixels, prepared clips and caches of each size."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from material import write_clips
from training_material import BASE, STAGE, hash_sources, log_lines, make_data, options, train_here, weights
from video_vae.cli import main
from video_vae.config import Data, Spatial, Stage, load_config, slices
from video_vae.data.fit import check_buckets
from video_vae.data.open_table import read_table
from video_vae.data.readers import Readers
from video_vae.data.sampling import Sampling
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import read_clip
from video_vae.distributed.ranks import started_ranks
from video_vae.errors import TIME_UP_STATUS, UserError
from video_vae.latents.cache import LatentCache
from video_vae.records import Record
from video_vae.training.datasets import Ahead, Batch, LatentSource, PixelSource, SizedSource
from video_vae.training.plan import StagePlan
from video_vae.training.setup import Inputs, set_up
from video_vae.verification.settings import setting_differences
from video_vae.weights.loading import load_spatial

SIZES = [(32, 32), (24, 40)]
BUCKETS: list[dict[str, Any]] = [{"resolution": [32, 32], "share": 1}, {"resolution": [24, 40], "share": 3}]
FRAMES, VIDEOS = [40, 1, 20, 33], [True, False, True, True]


def settings(data: dict[str, Any] | None = None, **changes: Any) -> str:
    sized = {"resolution": [32, 32], "buckets": BUCKETS, **(data or {})}
    return json.dumps({**BASE, "data": sized, "stages": {"stage1": {**STAGE, **changes}}})


def plan(data: Data, seed: int = 0, **changes: Any) -> StagePlan:
    stage = Stage.model_validate({"steps": 10, "frames": [1, 17], **changes})
    return StagePlan(seed=seed, name="stage1", stage=stage, frames=FRAMES, videos=VIDEOS, data=data)


def encode(folder: Path, output: str, config: str, *options: str) -> int:
    tables = [f"--data-path={folder / name}" for name in ("train.csv", "test.csv")]
    return main(["encode-latents", config, *tables, f"--spatial={folder / 'spatial'}", "--output", output, *options])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 48x56 pixels, and their latents at 32x32 (`latents`) and 24x40 (`wide`)."""
    folder = tmp_path_factory.mktemp("sizes")
    make_data(folder)
    assert encode(folder, str(folder / "wide.safetensors"), settings(), "--resolution", "24", "40") == 0
    return folder


def caches(folder: Path) -> list[str]:
    return ["--latents", str(folder / "latents.safetensors"), str(folder / "wide.safetensors")]


def test_each_size_has_its_share_of_the_steps_by_the_step_alone() -> None:
    made, again = plan(Data(buckets=BUCKETS)), plan(Data(buckets=BUCKETS))  # type: ignore[arg-type]
    shapes = [made.shape(step) for step in range(1, 8001)]
    assert shapes == [again.shape(step) for step in range(1, 8001)]
    assert shapes[:40] != [plan(Data(buckets=BUCKETS), seed=1).shape(step) for step in range(1, 41)]  # type: ignore[arg-type]
    for images in (False, True):
        counts = Counter(shape.size for shape in shapes if shape.images is images)
        assert counts[1] / counts.total() == pytest.approx(0.75, abs=0.03)
    seen = [made.window(step, at).size for step in range(1, 50) for at in range(4)]
    assert seen == [shape.size for shape in shapes[:49] for _ in range(4)]
    named = [made.noted(step) for step in range(1, 50)]
    assert {note["size"] for note in named} == {"32x32", "24x40"}
    assert [note["images"] for note in named] == [shape.images for shape in shapes[:49]]


def test_sizes_change_neither_clips_nor_frames_and_one_is_as_none() -> None:
    plain, sized = plan(Data()), plan(Data(buckets=BUCKETS))  # type: ignore[arg-type]
    alone = plan(Data(), buckets=[{"resolution": [64, 64]}])
    for step in range(1, 100):
        assert plain.window(step, 1) == replace(sized.window(step, 1), size=0) == alone.window(step, 1)
        assert plain.noted(step) == alone.noted(step) == {"images": plain.shape(step).images}
        assert plain.noise_seed(step, 1, "spatial") == sized.noise_seed(step, 1, "spatial")


def test_a_stages_own_sizes_stand_for_the_datas() -> None:
    given = Data(buckets=BUCKETS)  # type: ignore[arg-type]
    assert [bucket.resolution for bucket in Stage(steps=1).sizes(given)] == SIZES
    assert [bucket.resolution for bucket in Stage(steps=1, buckets=()).sizes(given)] == [(256, 256)]
    own = Stage.model_validate({"steps": 1, "buckets": [{"resolution": [8, 16]}]})
    assert [bucket.resolution for bucket in own.sizes(given)] == [(8, 16)]


def batches(folder: Path, kind: str, readers: Readers | None, steps: range, positions: range) -> list[Batch]:
    clips = read_table(folder / "train.csv")
    config = load_config(settings({"flip": True, "crop": "random", "scales": [1.0, 1.2]} if kind == "parts" else None))
    if kind == "latents":
        files = [folder / "latents.safetensors", folder / "wide.safetensors"]
        source = SizedSource([LatentSource(clips, LatentCache([file]), readers) for file in files])
    else:
        source = SizedSource([PixelSource(clips, size, Sampling(), readers=readers) for size in SIZES])
    stage, videos = config.stages.of("stage1"), [clip.kind == "video" for clip in clips]
    made = StagePlan(seed=0, name="stage1", stage=stage, frames=source.frames, videos=videos, data=config.data)
    ahead = Ahead(made, source, steps, positions, threads=readers.count if readers else int(kind != "latents"))
    try:
        return list(ahead)
    finally:
        ahead.close()


def test_any_number_of_workers_ranks_and_resumes_reads_the_same_bytes(data: Path) -> None:
    teams = [Readers(count) for count in (1, 3)]
    for kind in ("latents", "pixels", "parts"):
        whole = batches(data, kind, None, range(1, 13), range(4))
        sides = {(batch.images, tuple(batch.data.shape[3:])) for batch in whole}
        scale = 8 if kind == "latents" else 1
        assert sides == {(is_image, (h // scale, w // scale)) for is_image in (False, True) for h, w in SIZES}
        for readers in teams:
            parts = [
                batches(data, kind, readers, steps, positions)
                for positions in (range(2), range(2, 4))
                for steps in (range(1, 6), range(6, 13))
            ]
            for batch in [batch for part in parts for batch in part]:
                expected = whole[batch.step - 1]
                rows = slice(batch.positions.start, batch.positions.stop)
                assert torch.equal(batch.data, expected.data[rows]) and batch.windows == expected.windows[rows]
                assert not batch.failures
    for readers in teams:
        readers.close()


def test_cached_windows_of_a_size_are_the_moments_of_frames_of_that_size(data: Path) -> None:
    clip = read_table(data / "train.csv")[0]
    net = load_spatial(Spatial(pretrained=None), data / "spatial")
    for name, size in zip(("latents", "wide"), SIZES, strict=True):
        with torch.no_grad():
            frames = to_tensor(resize_crop(read_clip(clip, [2, 3]), size)).transpose(0, 1)
            moments = net.encode(frames).latent_dist.parameters.transpose(0, 1)
        window = LatentCache([data / f"{name}.safetensors"], resolution=size).window(clip.clip_id, 2, 2)
        torch.testing.assert_close(window, moments, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_training_at_several_sizes_goes_on_as_if_never_cut_off(data: Path, tmp_path: Path, is_cached: bool) -> None:
    latents, config = caches(data) if is_cached else [], settings(steps=5)
    train_here(options(data, tmp_path / "whole" / "out", *latents, config=config))
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            train_here(options(data, tmp_path / "cut" / "out", *latents, "--max-hours", "0", config=config))
        assert ended.value.code == TIME_UP_STATUS
    train_here(options(data, tmp_path / "cut" / "out", *latents, config=config))
    one, other = weights(tmp_path / "cut" / "out"), weights(tmp_path / "whole" / "out")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    lines = log_lines(tmp_path / "whole" / "out" / "log.jsonl", "train")
    assert {line["size"] for line in lines} == {"32x32", "24x40"}
    assert json.loads((tmp_path / "cut" / "out" / "run.json").read_text())["sizes"] == [[32, 32], [24, 40]]


def test_the_validation_stays_at_the_resolution(data: Path, tmp_path: Path) -> None:
    # the first steps' weights are the same, so that the figures say which frames were looked at
    for name, config in (("one", settings({"buckets": []}, steps=1)), ("several", settings(steps=1))):
        train_here(options(data, tmp_path / name, config=config))
    first = [log_lines(tmp_path / name / "log.jsonl", "valid")[0] for name in ("one", "several")]
    assert first[0]["psnr_spatial"] == first[1]["psnr_spatial"] and first[0]["l1"] == first[1]["l1"]
    assert "size" not in log_lines(tmp_path / "one" / "log.jsonl", "train")[0]


def fingerprint(folder: Path, config: str, files: list[str]) -> str:
    inputs = Inputs(
        train=folder / "train.csv", valid=folder / "test.csv", spatial=folder / "spatial", latents=[*map(Path, files)]
    )
    with started_ranks("cpu") as ranks:
        return set_up(load_config(config), "stage1", inputs, ranks).fingerprint


def test_sizes_name_a_training_and_only_by_what_shapes_it(data: Path) -> None:
    plain, sized = fingerprint(data, settings({"buckets": []}), []), fingerprint(data, settings(), [])
    assert plain == fingerprint(data, settings({"buckets": []}, buckets=[]), [])
    doubled = [{**bucket, "share": 2 * bucket["share"]} for bucket in BUCKETS]
    assert sized == fingerprint(data, settings({"buckets": []}, buckets=doubled), [])
    others = [fingerprint(data, settings({"buckets": buckets}), []) for buckets in (BUCKETS[:1], BUCKETS[::-1])]
    assert len({plain, sized, *others}) == 4


def test_a_size_is_cached_as_the_same_resolution_alone_and_taken_from_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sized, alone = load_config(settings()), load_config(settings({"resolution": [24, 40], "buckets": []}))
    assert slices.latents_slice(sized, (24, 40)) == slices.latents_slice(alone)
    hash_sources(data)
    config = settings({"resolution": [24, 40], "buckets": []})
    assert encode(data, str(tmp_path / "old" / "shard_0.safetensors"), config) == 0
    output = tmp_path / "new" / "shard_0.safetensors"
    assert encode(data, str(output), settings(), "--resolution", "24", "40", "--reuse", str(tmp_path)) == 0
    assert "4 of 6 clips are in an earlier cache" in capsys.readouterr().err
    assert output.read_bytes() == (tmp_path / "old" / "shard_0.safetensors").read_bytes()
    assert encode(data, str(output), settings(), "--reuse", str(tmp_path)) == 0  # of another size
    assert "in an earlier cache" not in capsys.readouterr().err


def test_lossless_prepared_clips_of_each_size_train_what_the_clips_train(data: Path, tmp_path: Path) -> None:
    config = settings({"prepare": "lossless"}, steps=3, objective="pixels", identity_weight=0.0)
    shards = [str(tmp_path / f"{number}.tar") for number in range(2)]
    for shard, size in zip(shards, SIZES, strict=True):
        asked = ["--data-path", str(data / "train.csv"), "--output", shard, "--resolution", *map(str, size)]
        assert main(["prepare-clips", config, *asked]) == 0
    train_here(options(data, tmp_path / "prepared", "--prepared", *shards, config=config))
    plain = settings(steps=3, objective="pixels", identity_weight=0.0)
    train_here(options(data, tmp_path / "plain", config=plain))
    one, other = weights(tmp_path / "prepared"), weights(tmp_path / "plain")
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((tmp_path / "prepared" / "run.json").read_text())["prepared"]["prepare"] == "lossless"
    with pytest.raises(UserError, match=r"trained at 24x40 pixels, too .* --prepared names no files of that size"):
        train_here(options(data, tmp_path / "lost", "--prepared", shards[0], config=config))


def test_caches_that_do_not_fit_the_sizes_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow, wide = str(data / "latents.safetensors"), str(data / "wide.safetensors")
    third = settings({"buckets": [*BUCKETS, {"resolution": [40, 40]}]})
    for files, config, said in (
        ([narrow], settings(), r"24x40 pixels, too \(data.buckets\), and --latents names .* --resolution 24 40`"),
        ([narrow, wide], third, "trained at 40x40 pixels"),
        (
            [narrow, wide],
            settings({"buckets": BUCKETS[:1]}),
            r"resolution \[24, 40\], not \[32, 32\]; encode the clips",
        ),
        ([wide], settings({"buckets": []}), r"resolution \[24, 40\], not \[32, 32\]; encode the clips"),
    ):
        with pytest.raises(UserError, match=said):
            train_here(options(data, tmp_path / "out", "--latents", *files, config=config))
    assert encode(data, str(tmp_path / "x.safetensors"), settings(), "--resolution", "24", "48") != 0
    told = capsys.readouterr().err
    assert "no stage is trained at 24x48 pixels (data.buckets); known: 32x32, 24x40" in told
    assert not list(tmp_path.iterdir())


def test_a_size_that_no_training_clip_fills_is_refused(data: Path, tmp_path: Path) -> None:
    fits, large = {"resolution": [48, 56]}, {"resolution": [56, 56]}
    for given, key in (
        (settings({"buckets": [fits, large]}), "data.buckets"),
        (settings({"buckets": []}, buckets=[large]), "stages.stage1.buckets"),
        (settings({"buckets": [fits], "zoom": 1.25}), "data.buckets"),
    ):
        with pytest.raises(
            UserError, match=rf"{key}: .* is larger than every training clip \(.* 48x56 pixels\); leave"
        ):
            train_here(options(data, tmp_path / "out", config=given))
    check_buckets(load_config(settings({"buckets": [fits]})), read_table(data / "train.csv"))
    for crop in ({}, {"crop": "random", "scales": [1.25, 1.0]}):  # a larger one of several scales is enlarged, as alone
        check_buckets(load_config(settings({"buckets": [fits], **crop})), read_table(data / "train.csv"))


def test_a_manifest_is_refused_before_anything_is_encoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clips(tmp_path / "clips", frames=20, height=72, width=96)
    config = json.dumps({"data": {"sources": [str(tmp_path / "clips")], "split": {"test_fraction": 0.5}}})
    asked = ["manifest", config, "--output-dir", str(tmp_path / "out"), "--trained-at"]
    for height, status in ((72, 0), (80, 2)):
        sizes = load_config(json.dumps({"data": {"buckets": [{"resolution": [height, 64]}]}}))
        assert main([*asked, slices.as_text(slices.sizes_slice(sizes))]) == status
    assert "data.buckets: 80x64 is larger than every training clip" in capsys.readouterr().err


def test_what_is_enlarged_is_named_for_each_size(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings({"buckets": BUCKETS, "crop": "random", "scales": [1.0, 1.5]}, steps=1)
    train_here(options(data, tmp_path / "out", config=config))
    assert "4 of 4 clips are enlarged" in caplog.text and "(24x40, enlargement 1.5)" in caplog.text
    assert "(32x32, enlargement" not in caplog.text


def test_a_recorded_job_of_one_size_is_as_configured_while_a_stage_is_trained_at_it() -> None:
    sized = load_config(settings())
    made = slices.seen_at(sized, (24, 40)).model_dump(mode="json")
    for command in ("encode-latents", "prepare-clips"):
        record = Record(path="run.json", values={"command": command, "config": made})
        assert not list(setting_differences(sized, record, "run"))
        (said,) = setting_differences(load_config(settings({"buckets": BUCKETS[:1]})), record, "run")
        assert "data.resolution is [32, 32] now, run.json was made with [24, 40]" in said
