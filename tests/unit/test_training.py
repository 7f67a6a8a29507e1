"""A training does what its settings say, wherever it was cut off, and says what is wrong."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from training_material import (
    BASE,
    STAGE,
    cached,
    hash_sources,
    log_lines,
    make_data,
    options,
    settings,
    train_here,
    weights,
)
from video_vae.config import Spatial, load_config
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.distributed.ranks import Ranks
from video_vae.errors import TIME_UP_STATUS, UserError
from video_vae.latents.cache import LatentCache
from video_vae.losses import PerceptualLoss
from video_vae.training import trainer as trainer_module
from video_vae.training.datasets import Batch, LatentSource, PixelSource
from video_vae.training.optimization import Optimization
from video_vae.training.plan import StagePlan, Window
from video_vae.training.step import Draws
from video_vae.training.trainer import Trainer
from video_vae.weights.loading import load_spatial, load_video_vae


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    output = data / "finished" / "stage1"
    train_here(options(data, output, *cached(data)))
    return output


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def state_folders(output: Path) -> list[Path]:
    return sorted((output.parent / "state" / "stage1").iterdir())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_stage_leaves_its_model_log_and_record(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert (record["stage"], record["steps"], record["epochs"], record["starts"]) == ("stage1", 6, 6.0, 1)
    assert record["cached_latents"] and record["drawn"] == 24
    assert set(record["inputs"]) == {"latents_0", "spatial", "train", "valid"}
    assert [line["step"] for line in log_lines(finished / "log.jsonl", "train")] == [1, 2, 3, 4, 5, 6]
    valid = log_lines(finished / "log.jsonl", "valid")
    assert [line["step"] for line in valid] == [0, 3, 6]
    assert valid[-1]["l1"] < valid[0]["l1"]
    assert [("psnr" in line, "psnr_spatial" in line) for line in valid] == [(True, True), (False, False), (True, True)]
    assert not same(weights(finished), weights(finished, "model_raw"))
    load_video_vae(finished / "model")
    assert list((finished / "tensorboard").glob("events*"))


def test_the_log_holds_what_was_weighted(finished: Path) -> None:
    for line in log_lines(finished / "log.jsonl", "train"):
        assert ("identity" in line) == line["images"]
        expected = line["reconstruction"] + line.get("identity", 0.0) + 1e-6 * line["kl"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)
        assert line["l1"] * 64 == pytest.approx(line["reconstruction"], rel=1e-5)
        assert line["frames"] == 4 if line["images"] else 4 * 5 <= line["frames"] <= 4 * 9


def test_a_training_cut_off_after_every_step_ends_in_the_same_weights(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    for _ in range(5):
        with pytest.raises(SystemExit) as ended:
            train_here(options(data, tmp_path / "out", *cached(data), "--max-hours", "0"))
        assert ended.value.code == TIME_UP_STATUS and not (tmp_path / "out" / "model").exists()
    train_here(options(data, tmp_path / "out", *cached(data)))
    for name in ("model", "model_raw"):
        assert same(weights(tmp_path / "out", name), weights(finished, name))
    lines = [log_lines(folder / "log.jsonl") for folder in (tmp_path / "out", finished)]
    for event in ("train", "valid"):
        kept = [[(x["step"], x.get("loss"), x.get("l1")) for x in part if x["event"] == event] for part in lines]
        assert kept[0] == kept[1]


def test_a_signal_saves_the_step_and_ends_with_its_status(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Trainer._accumulate

    def interrupted(self: Trainer, batch: Batch) -> Any:
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        return forward(self, batch)

    monkeypatch.setattr(Trainer, "_accumulate", interrupted)
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(SystemExit) as ended:
        train_here(options(data, tmp_path / "out", *cached(data)))
    assert ended.value.code == 128 + signal.SIGUSR1 and signal.getsignal(signal.SIGUSR1) == before
    (folder,) = state_folders(tmp_path / "out")
    assert (folder / "step-000000003").is_dir() and not (tmp_path / "out").joinpath("run.json").exists()


def test_a_batch_that_does_not_divide_over_the_ranks_is_told_with_its_cure() -> None:
    ranks = Ranks(rank=1, world_size=2, device=torch.device("cpu"))
    assert ranks.share(8, 2, "stage1") == (range(4, 8), 2)
    assert ranks.share(2, 2, "stage1") == (range(1, 2), 1)
    with pytest.raises(UserError, match=r"stages.stage1.global_batch 3 does not divide over 2 ranks; take a multiple"):
        ranks.share(3, 1, "stage1")
    with pytest.raises(UserError, match=r"stages.stage1.micro_batch 2 does not divide the 3 clips of a rank"):
        ranks.share(6, 2, "stage1")


def test_the_same_command_again_trains_nothing_and_leaves_the_same(data: Path, finished: Path) -> None:
    before, lines = weights(finished), log_lines(finished / "log.jsonl", "train")
    train_here(options(data, finished, *cached(data)))
    assert same(weights(finished), before)
    assert log_lines(finished / "log.jsonl", "train") == lines


def test_a_broken_newest_checkpoint_costs_steps_and_changes_nothing(
    data: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with pytest.raises(SystemExit):
            train_here(options(data, tmp_path / "out", *cached(data), "--end-by", "0"))
    (folder,) = state_folders(tmp_path / "out")
    newest = folder / "step-000000005" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        train_here(options(data, tmp_path / "out", *cached(data)))
    assert "step 5 is not usable" in caplog.text
    assert same(weights(tmp_path / "out"), weights(finished))
    assert [line["step"] for line in log_lines(tmp_path / "out" / "log.jsonl", "train")] == [1, 2, 3, 4, 5, 6]


def test_other_settings_never_go_on_from_an_old_state(data: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (tmp_path / "state").symlink_to(finished.parent / "state")
    for changes, fresh in (({"learning_rate": 2e-3}, True), ({"checkpoint_every": 5, "log_every": 2}, False)):
        before = set(state_folders(output))
        train_here(options(data, output, *cached(data), config=settings(**changes)))
        assert bool(set(state_folders(output)) - before) == fresh
        assert same(weights(output), weights(finished)) != fresh


def test_batching_and_the_cache_change_no_more_than_rounding(data: Path, finished: Path, tmp_path: Path) -> None:
    train_here(options(data, tmp_path / "micro", *cached(data), config=settings(micro_batch=4)))
    for key, value in weights(finished, "model_raw").items():
        torch.testing.assert_close(weights(tmp_path / "micro", "model_raw")[key], value, rtol=0, atol=1e-4)
    train_here(options(data, tmp_path / "uncached", config=settings(steps=2)))
    losses = [
        [line["loss"] for line in log_lines(tmp_path / name / "log.jsonl", "train")][:2]
        for name in ("micro", "uncached")
    ]
    # The cache holds float16.
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_the_update_and_names_step_and_clips(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    stopping, skipping = (settings(image_share=0.0, micro_batch=1, non_finite=way) for way in ("stop", "skip"))
    step, clips = spoil_window(data, monkeypatch) if what == "loss" else spoil_gradient(data, monkeypatch)
    with pytest.raises(UserError, match=rf"stage1, step {step}: the {what} is not finite on clips") as told:
        train_here(options(data, tmp_path / "out", *cached(data), config=stopping))
    assert f"clips {', '.join(clips)};" in str(told.value) and not (tmp_path / "out" / "model").exists()
    (folder,) = state_folders(tmp_path / "out")
    assert (folder / f"step-{step - 1:09d}").is_dir()
    train_here(options(data, tmp_path / "out", *cached(data), config=skipping))
    lines = log_lines(tmp_path / "out" / "log.jsonl")
    assert [(line["step"], line["clips"]) for line in lines if line["event"] == "skipped"] == [(step, clips)]
    assert [line["step"] for line in lines if line["event"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["event"] == "end" and lines[-1]["skipped"] == 1
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "out").values())


def drawn_windows(data: Path) -> dict[int, list[Window]]:
    clips = read_table(data / "train.csv")
    plan = StagePlan(
        seed=0,
        name="stage1",
        stage=load_config(settings(image_share=0.0)).stages.of("stage1"),
        frames=[clip.num_frames for clip in clips],
        videos=[clip.kind == "video" for clip in clips],
    )
    return {step: [plan.window(step, position) for position in range(4)] for step in range(1, 7)}


def named(data: Path, windows: list[Window]) -> list[str]:
    clips = read_table(data / "train.csv")
    return [f"{clips[window.row].clip_id}[{window.start}:{window.start + window.length}]" for window in windows]


def spoil_window(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Put NaN into a window that one step alone draws; return the step, and the window's name."""
    drawn = drawn_windows(data)
    step, spoilt = next(
        (step, window)
        for step in range(3, 7)
        for window in drawn[step]
        if sum(windows.count(window) for windows in drawn.values()) == 1
    )
    read = LatentSource.read
    monkeypatch.setattr(
        LatentSource,
        "read",
        lambda self, window: read(self, window) * (torch.nan if window == spoilt and len(self.clips) > 2 else 1.0),
    )
    return step, named(data, [spoilt])


def spoil_gradient(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Make the third step's gradient infinite; return the step, and the names of its windows."""
    norm, draws = Optimization.gradient_norm, Trainer._draws
    steps: list[int] = []

    def noted(self: Trainer, step: int, positions: range) -> Draws:
        steps.append(step)
        return draws(self, step, positions)

    monkeypatch.setattr(Trainer, "_draws", noted)
    monkeypatch.setattr(Optimization, "gradient_norm", lambda self: norm(self) * (torch.inf if steps[-1] == 3 else 1.0))
    return 3, named(data, drawn_windows(data)[3])


def test_a_clip_that_does_not_decode_is_named_and_replaced_the_same_way_each_time(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "data"
    make_data(broken)
    (broken / "bb.mkv").write_bytes((broken / "bb.mkv").read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        for name, workers in (("one", 0), ("two", 1)):
            lenient = json.loads(settings(steps=3, image_share=0.0, workers=workers))
            lenient["data"]["max_failed_share"] = 0.5
            given = options(broken, tmp_path / name, "--state", str(tmp_path / name), config=json.dumps(lenient))
            train_here(given)
    assert f"{broken / 'bb.mkv'}: unreadable" in caplog.text
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    failed, again = (
        [
            (line["step"], line["path"], line["reason"])
            for line in log_lines(tmp_path / name / "log.jsonl", "failed_clip")
        ]
        for name in ("one", "two")
    )
    assert failed == again and {path for _, path, _ in failed} == {str(broken / "bb.mkv")}
    states = [[path.name for path in (tmp_path / name / "stage1").iterdir()] for name in ("one", "two")]
    assert states[0] == states[1]


@pytest.mark.parametrize("fault", ["deleted", "replaced", "emptied"])
def test_a_clip_that_is_gone_stops_the_training_and_costs_nothing_once_it_is_back(tmp_path: Path, fault: str) -> None:
    make_data(tmp_path)
    hash_sources(tmp_path)
    config = settings(steps=4, image_share=0.0, validate_every=4)
    clip = tmp_path / "bb.mkv"
    train_here(options(tmp_path, tmp_path / "whole" / "out", config=config))
    whole = clip.read_bytes()
    clip.unlink()
    if fault == "replaced":
        shutil.copy(tmp_path / "ccc.mkv", clip)
    elif fault == "emptied":
        clip.touch()
    arguments = options(tmp_path, tmp_path / "again" / "out", config=config)
    with pytest.raises(UserError, match=r"bb.mkv: (missing|changed): .*; put the file back, then the same command"):
        train_here(arguments)
    clip.write_bytes(whole)
    train_here(arguments)
    assert same(weights(tmp_path / "whole" / "out"), weights(tmp_path / "again" / "out"))
    assert not log_lines(tmp_path / "again" / "out" / "log.jsonl", "failed_clip")


def test_too_many_failed_clips_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "FAIR_DRAWS", 1)
    make_data(tmp_path)
    for name in ("bb", "ccc"):
        (tmp_path / f"{name}.mkv").write_text("no video")
    with pytest.raises(UserError, match=r"drawn clips could not be read, more than data.max_failed_share 0.05"):
        train_here(options(tmp_path, tmp_path / "out"))


@pytest.fixture(scope="module")
def lpips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import lpips
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    state = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith(("lins.", "scaling"))}, folder / "vgg.safetensors")
    PerceptualLoss.from_folder(folder)
    return folder


def test_later_stages_start_from_the_one_before_and_train_what_they_should(
    data: Path, finished: Path, tmp_path: Path, lpips_folder: Path
) -> None:
    second = options(
        data,
        tmp_path / "stage2",
        *cached(data),
        "--init-from",
        str(finished / "model"),
        stage="stage2",
        config=settings("stage2", steps=2, identity_weight=0.0, ema_decay=None),
    )
    train_here(second)
    pixels = {"objective": "pixels", "train_spatial": True, "perceptual_weight": 0.1, "perceptual_frames": 2}
    third = options(
        data,
        tmp_path / "stage3",
        "--init-from",
        str(tmp_path / "stage2" / "model"),
        "--lpips",
        str(lpips_folder),
        stage="stage3",
        config=settings("stage3", steps=2, frames=[1, 9], identity_weight=0.0, **pixels),
    )
    train_here(third)
    parts = [weights(folder) for folder in (finished, tmp_path / "stage2", tmp_path / "stage3")]
    moved = [
        {name.split(".")[0] for name in parts[0] if not torch.equal(parts[index][name], parts[index + 1][name])}
        for index in (0, 1)
    ]
    assert moved == [{"temporal_vae"}, {"temporal_vae", "spatial_vae"}]
    assert not (tmp_path / "stage2" / "model_raw").exists()
    for line in log_lines(tmp_path / "stage3" / "log.jsonl", "train"):
        expected = line["reconstruction"] + 0.1 * line["perceptual"] + 1e-6 * line["kl"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)
        assert line["l1"] * 3 * 32 * 32 == pytest.approx(line["reconstruction"], rel=1e-5)
    assert all("psnr" in line for line in log_lines(tmp_path / "stage3" / "log.jsonl", "valid"))


def test_mistakes_are_told_with_their_cure(data: Path, finished: Path, tmp_path: Path) -> None:
    pixels = settings("stage3", objective="pixels", perceptual_weight=0.1)
    full_size = json.dumps({"data": BASE["data"], "stages": {"stage1": STAGE}})
    no_lpips = options(data, tmp_path, "--lpips", str(tmp_path / "none"), config=pixels, stage="stage3")
    other_net = options(data, tmp_path, "--init-from", str(finished / "model"), config=full_size)
    cases = [
        (no_lpips, r"stage3: --lpips .*none does not exist.*perceptual_weight: 0"),
        (options(data, tmp_path, "--init-from", str(data / "nowhere")), r"no config\.json there"),
        (options(data, tmp_path, config=settings(frames=[40, 50])), r"longest of the training clips has 21 frames"),
        (other_net, r"has base_channels 4, model.temporal.base_channels is 128"),
    ]
    for arguments, told in cases:
        with pytest.raises(UserError, match=told):
            train_here(arguments)


def test_bf16_and_recomputation_train_close_to_fp32(data: Path, finished: Path, tmp_path: Path) -> None:
    train_here(options(data, tmp_path / "bf16", *cached(data), config=settings(precision="bf16")))
    train_here(options(data, tmp_path / "recomputed", *cached(data), config=settings(gradient_checkpointing=True)))
    exact = [line["loss"] for line in log_lines(finished / "log.jsonl", "train")]
    for name, tolerance in (("bf16", 2e-2), ("recomputed", 1e-5)):
        lines = log_lines(tmp_path / name / "log.jsonl", "train")
        assert [line["loss"] for line in lines] == pytest.approx(exact, rel=tolerance)
    assert {value.dtype for value in weights(tmp_path / "bf16").values()} == {torch.float32}


def test_windows_of_pixels_and_of_the_cache_are_the_same_frames(data: Path) -> None:
    clips = read_table(data / "train.csv")
    pixels = PixelSource(clips, (32, 32), Sampling())
    latents = LatentSource(clips, LatentCache([data / "latents.safetensors"]))
    assert pixels.frames == latents.frames
    net = load_spatial(Spatial(pretrained=None), data / "spatial")
    window = Window(row=1, start=3, length=4)
    with torch.no_grad():
        moments = net.encode(pixels.read(window).transpose(0, 1)).latent_dist.parameters.transpose(0, 1)
    torch.testing.assert_close(latents.read(window), moments, rtol=1e-3, atol=1e-2)
