"""Scoring folders: the right pairs, the right frames, the metrics' own numbers, and clear words for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import golden
from metrics_material import bikes, save_clip, write_lpips
from video_vae.cli import main_for
from video_vae.data.storage import write_lossless, write_preview
from video_vae.metrics import DIS, FloLPIPS, flicker, load_lpips, psnr, psnr_from_mse, ssim
from video_vae.metrics import scoring as scoring_module
from video_vae.metrics.pairing import variant_names
from video_vae.metrics.reading import View, open_source, read_chunks

ALL = ("psnr", "ssim", "lpips", "flolpips", "flicker")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lpips(tmp_path_factory.mktemp("lpips"))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips, 6 frames of 64x64: originals, reconstructions, and a second variant."""
    real, generated = bikes()
    for name, shift in (("a", 0), ("b", 7), ("c", 20)):
        save_clip(tmp_path / "x_ori" / f"{name}.mkv", np.roll(real, shift, axis=2))
        save_clip(tmp_path / "x_rec" / f"{name}.mkv", np.roll(generated, shift, axis=2))
        save_clip(tmp_path / "x_spatial" / f"{name}.mkv", np.roll(generated[::-1], shift, axis=2))
    return tmp_path


def evaluate(folder: Path, *options: str | int | Path, variants: tuple[str, ...] = ("rec",)) -> int:
    where = [f"--real_video_dir={folder / 'x_ori'}", "--device=cpu", "--output_dir", str(folder / "scores")]
    generated = [str(folder / f"x_{variant}") for variant in variants]
    return main_for("evaluate", [*where, "--generated_video_dir", *generated, *map(str, options)])


def summary(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "scores/summary.json").read_text())
    return values


def test_numbers_are_those_of_the_metrics(clips: Path, weights: Path) -> None:
    assert evaluate(clips, "--lpips", weights, variants=("rec", "spatial")) == 0
    frames = pd.read_parquet(clips / "scores/frames.parquet")
    assert list(frames.columns) == [
        "variant", "clip_id", "frame", "psnr", "mse", "ssim", "lpips", "flolpips", "flicker", "motion",
    ]  # fmt: skip
    assert frames.groupby(["variant", "clip_id"], sort=False)["frame"].apply(list).to_dict() == {
        (variant, clip): list(range(6)) for variant in ("rec", "spatial") for clip in "abc"
    }
    real, generated = (torch.from_numpy(f.copy()).permute(0, 3, 1, 2).float() / 255 for f in bikes())
    metric = load_lpips(weights)
    scored = frames[(frames.variant == "spatial") & (frames.clip_id == "a")]
    pair = (real, generated.flip(0))
    expected = {"psnr": psnr(*pair), "ssim": ssim(*pair), "lpips": metric(*pair)}
    for name, values in expected.items():
        np.testing.assert_allclose(scored[name], values.numpy(), atol=1e-6)
    np.testing.assert_allclose(scored["flolpips"], [*FloLPIPS(metric, DIS())(*pair).tolist(), np.nan], atol=1e-6)
    np.testing.assert_allclose(scored["flicker"], [np.nan, *flicker(*pair).tolist()], atol=1e-4)
    clip_scores = pd.read_csv(clips / "scores/clips.csv")
    table = clip_scores.set_index(["variant", "clip_id"]).xs(("spatial", "a"))
    assert table["frames"] == 6 and table["psnr_capped"] == 0
    assert table["psnr_pooled"] == pytest.approx(float(psnr_from_mse((pair[0] - pair[1]).square().mean())), abs=1e-5)
    assert table["flolpips"] == pytest.approx(float(scored["flolpips"].mean()), abs=1e-6)


def test_summary_holds_means_intervals_and_conditions(clips: Path, weights: Path) -> None:
    assert evaluate(clips, "--lpips", weights, "--sample_fps", "24") == 0
    found = summary(clips)
    table = pd.read_csv(clips / "scores/clips.csv")
    entry = found["variants"]["rec"]
    assert (entry["clips"], entry["frames"], entry["psnr_capped"]) == (3, 18, 0)
    for metric in (*ALL, "psnr_pooled"):
        assert entry[metric]["mean"] == pytest.approx(table[metric].mean(), abs=1e-5)
        assert entry[metric]["std"] == pytest.approx(table[metric].std(), abs=1e-5)
        assert entry[metric]["low"] <= entry[metric]["mean"] <= entry[metric]["high"]
    said = found["conditions"]
    assert said["resolution"] == "64x64" and said["stride"] == 1 and said["fps"] == 24 and said["flow"] == "dis"
    assert said["lpips"]["alex"].startswith("alex:") and len(said["lpips_sha256"]["alex"]) == 64
    assert "FFV1" in said["storage"]["real"] and said["lossless"] and said["packages"]["torch"]
    assert found["unpaired"] == found["refused"] == found["unequal"] == []


def test_the_same_twice_is_the_same_to_the_byte(clips: Path, weights: Path) -> None:
    written = []
    for _ in range(2):
        assert evaluate(clips, "--lpips", weights) == 0
        written.append(
            [(clips / "scores" / name).read_bytes() for name in ("frames.parquet", "clips.csv", "summary.json")]
        )
    assert written[0] == written[1]


def test_the_size_of_chunks_changes_nothing(clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for pixels in (1, 2 * 64 * 64, scoring_module.BATCH_PIXELS):
        monkeypatch.setattr(scoring_module, "BATCH_PIXELS", pixels)
        assert evaluate(clips, "--lpips", weights, "--batch_size", "2", variants=("rec", "spatial")) == 0
        tables.append(pd.read_parquet(clips / "scores/frames.parquet"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, atol=1e-5, rtol=1e-5)


def test_identical_videos(clips: Path, weights: Path) -> None:
    assert evaluate(clips, "--lpips", weights, variants=("ori",)) == 0
    entry = summary(clips)["variants"]["ori"]
    assert entry["psnr"]["mean"] == entry["psnr_pooled"]["mean"] == 100.0 and entry["psnr_capped"] == 18
    assert entry["lpips"]["mean"] == entry["flolpips"]["mean"] == entry["flicker"]["mean"] == 0.0
    assert entry["ssim"]["mean"] == pytest.approx(1.0, abs=1e-7)


FLAGS = "--batch_size 2 --device cpu --sample_fps 24 --crop_size 48 --resolution 56 --num_frames 4 --sample_rate 1"


def test_the_reports_command_as_typed(clips: Path, weights: Path) -> None:
    command = f"--real_video_dir {clips}/x_ori --generated_video_dir {clips}/x_rec {FLAGS} --lpips {weights}"
    command += f" --metric ssim psnr lpips flolpips --output {clips}/metrics.json"
    arguments = [sys.executable, "-m", "video_vae.evaluate", *command.split()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads((clips / "metrics.json").read_text())["conditions"]
    assert (said["resolution"], said["resize"], said["crop"], said["frames"]) == ("48x48", 56, 48, 4)
    assert "rec: 3 clips, 12 frames" in done.stdout and "flolpips [dis]" in done.stdout
    assert "evaluate: " in done.stderr and "12/12 frames" in done.stderr


def test_every_option_may_be_written_with_dashes(clips: Path) -> None:
    command = f"--real_video_dir {clips}/x_ori --generated_video_dir {clips}/x_rec {FLAGS} --output_dir {clips}/scores"
    dashed = [word.replace("_", "-") if word.startswith("--") else word for word in command.split()]
    assert main_for("evaluate", [*dashed, "--metric", "psnr"]) == 0
    assert summary(clips)["variants"]["rec"]["frames"] == 12


def test_only_what_the_metrics_need_is_loaded(clips: Path) -> None:
    """No LPIPS weights and no flow weights are at hand, and none are asked for."""
    assert evaluate(clips, "--metric", "psnr", "ssim", "--lpips", clips / "none", "--flow", "pwcnet") == 0
    assert "lpips" not in summary(clips)["variants"]["rec"] and summary(clips)["conditions"]["flow"] is None
    assert pd.read_parquet(clips / "scores/frames.parquet")["lpips"].isna().all()
    assert evaluate(clips, "--metric", "lpips", "--lpips", clips / "none") == 2


def test_lpips_with_vgg_is_an_option(tmp_path: Path) -> None:
    real, generated = bikes()
    save_clip(tmp_path / "x_ori/a.mkv", real[:2, :32, :32])
    save_clip(tmp_path / "x_rec/a.mkv", generated[:2, :32, :32])
    write_lpips(tmp_path, "vgg")
    assert evaluate(tmp_path, "--metric", "lpips_vgg", "--lpips", tmp_path) == 0
    score = pd.read_csv(tmp_path / "scores/clips.csv")["lpips_vgg"][0]
    found = summary(tmp_path)
    assert found["variants"]["rec"]["lpips_vgg"]["mean"] == pytest.approx(score, abs=1e-6) and score > 0
    assert list(found["conditions"]["lpips"]) == ["vgg"]
    entry = f"demo:stage1:{tmp_path / 'scores/summary.json'}"
    assert main_for("collect-metrics", [entry, "--output", str(tmp_path / "metrics.csv")]) == 0
    assert pd.read_csv(tmp_path / "metrics.csv")["lpips_vgg"][0] == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("side", "metric"), [(10, "ssim"), (30, "lpips"), (30, "flolpips")])
def test_frames_too_small_for_a_metric_are_refused(
    side: int, metric: str, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips, "--crop_size", side, "--metric", "psnr", metric, "--lpips", weights) == 2
    assert f"{side}x{side} pixels are too small for {metric}" in capsys.readouterr().err
    assert evaluate(clips, "--crop_size", side, "--metric", "psnr", "flicker") == 0


def test_clips_without_a_partner_are_listed(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "x_ori/a.mkv").unlink()
    (clips / "x_spatial/c.mkv").unlink()
    (clips / "x_rec/notes.txt").write_text("not a clip")
    assert evaluate(clips, "--metric", "psnr", variants=("rec", "spatial")) == 0
    found = summary(clips)
    assert found["unpaired"] == [
        {"clip_id": "a", "missing_from": "real"},
        {"clip_id": "c", "missing_from": "spatial"},
    ]
    assert {name: entry["clips"] for name, entry in found["variants"].items()} == {"rec": 2, "spatial": 1}
    assert "a has no partner: missing from real" in capsys.readouterr().err
    assert evaluate(clips, "--metric", "psnr", "--strict", variants=("rec", "spatial")) == 2


def test_strict_writes_nothing_where_a_clip_is_damaged(clips: Path) -> None:
    content = bytearray((clips / "x_rec/a.mkv").read_bytes())
    content[len(content) // 2] ^= 1
    (clips / "x_rec/a.mkv").write_bytes(content)
    assert evaluate(clips, "--metric", "psnr", "--strict") == 2
    assert not (clips / "scores" / "summary.json").exists()


def test_nothing_pairs(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (clips / "x_rec").iterdir():
        file.rename(file.with_stem(f"other_{file.stem}"))
    assert evaluate(clips, "--metric", "psnr") == 2
    assert "files pair by name" in capsys.readouterr().err
    assert evaluate(clips, "--metric", "psnr", variants=("none",)) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_two_clips_of_one_name_are_ambiguous(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "x_rec/a.mp4").write_bytes((clips / "x_rec/a.mkv").read_bytes())
    assert evaluate(clips, "--metric", "psnr") == 2
    assert "holds both a.mkv and a.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(("real", "generated"), [(6, 4), (3, 6), (4, 5)])
def test_unequal_lengths_score_the_common_frames(clips: Path, real: int, generated: int) -> None:
    first, second = bikes()
    save_clip(clips / "x_ori/a.mkv", first[:real])
    save_clip(clips / "x_rec/a.mkv", second[:generated])
    assert evaluate(clips, "--metric", "psnr", "flicker") == 0
    table = pd.read_csv(clips / "scores/clips.csv").set_index("clip_id")
    assert table.loc["a", "frames"] == min(real, generated) and table.loc["b", "frames"] == 6
    assert summary(clips)["unequal"] == [["rec", "a"]] and summary(clips)["conditions"]["unequal_lengths"] == 1
    # where only the common frames are asked for, nothing is unequal
    assert evaluate(clips, "--metric", "psnr", "--num_frames", min(real, generated)) == 0
    assert summary(clips)["unequal"] == []


def test_unequal_sizes_are_refused_by_name(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clip(clips / "x_rec/a.mkv", bikes()[1][:, :60])
    assert evaluate(clips, "--metric", "psnr") == 0
    assert [(clip["clip_id"], clip["variant"]) for clip in summary(clips)["refused"]] == [("a", "rec")]
    assert "a (rec) is not scored: 60x64 pixels, the original 64x64" in capsys.readouterr().err
    assert evaluate(clips, "--metric", "psnr", "--strict") == 2
    assert evaluate(clips, "--metric", "psnr", "--crop_size", "48", "--strict") == 0
    assert evaluate(clips, "--metric", "psnr", "--crop_size", "80") == 2
    assert "do not hold a crop of 80" in capsys.readouterr().err


def test_broken_clips_are_refused_and_the_others_scored(clips: Path) -> None:
    whole = (clips / "x_rec/a.mkv").read_bytes()
    (clips / "x_rec/a.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (clips / "x_ori/b.mkv").write_bytes(b"")
    assert evaluate(clips, "--metric", "psnr", variants=("rec", "spatial")) == 0
    found = summary(clips)
    assert [(clip["clip_id"], clip["variant"]) for clip in found["refused"]] == [
        ("a", "rec"), ("b", "rec"), ("b", "spatial"),
    ]  # fmt: skip
    assert "the original" in found["refused"][1]["reason"]
    assert {name: entry["clips"] for name, entry in found["variants"].items()} == {"rec": 1, "spatial": 2}


def test_nothing_can_be_scored(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (clips / "x_rec").iterdir():
        file.write_bytes(b"broken")
    assert evaluate(clips, "--metric", "psnr") == 2
    assert "no clip could be scored; a (rec)" in capsys.readouterr().err


def test_ordinary_videos_and_images_are_scored_and_named_lossy(tmp_path: Path) -> None:
    real, generated = bikes()
    (tmp_path / "x_ori").mkdir()
    (tmp_path / "x_rec").mkdir()
    write_preview(tmp_path / "x_ori/video.mp4", real, 25)
    save_clip(tmp_path / "x_rec/video.mkv", real)
    Image.fromarray(real[0]).save(tmp_path / "x_ori/image.png")
    Image.fromarray(generated[0]).save(tmp_path / "x_rec/image.png")
    assert evaluate(tmp_path, "--metric", "psnr", "flicker") == 0
    table = pd.read_csv(tmp_path / "scores/clips.csv").set_index("clip_id")
    assert table.loc["image", "psnr"] == pytest.approx(float(golden.arrays("metrics_bikes_64")["psnr"][0]), abs=1e-5)
    assert table["frames"]["image"] == 1 and 25 < table["psnr"]["video"] < 50
    assert not summary(tmp_path)["conditions"]["lossless"]


def test_stride_resize_and_crop_choose_what_is_seen(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 40, 60, 3), dtype=np.uint8)
    write_lossless(tmp_path / "a.mkv", frames, 25)
    source = open_source(tmp_path / "a.mkv")

    def seen(view: View) -> np.ndarray:
        chunks = list(read_chunks(source, view, 7))
        assert all(len(chunk) == 7 for chunk in chunks[:-1])
        return np.concatenate(chunks)

    assert np.array_equal(seen(View()), frames)
    assert np.array_equal(seen(View(sample_rate=3)), frames[::3])
    assert np.array_equal(seen(View(sample_rate=17, num_frames=2)), frames[[0, 17]])
    assert np.array_equal(seen(View(num_frames=33)), frames[:33])
    assert np.array_equal(seen(View(num_frames=99, resolution=40)), frames)
    assert np.array_equal(seen(View(crop_size=40)), frames[:, :, 10:50])
    assert seen(View(resolution=20)).shape == (40, 20, 30, 3)
    assert seen(View(resolution=20, crop_size=18)).shape == (40, 18, 18, 3)


def test_tables_choose_clips_and_name_their_makers(clips: Path) -> None:
    (clips / "shard_0.csv").write_text("clip_id,frames\nb,6\n")
    (clips / "shard_1.csv").write_text("clip_id,frames\nc,6\ngone,6\n")
    for shard in (0, 1):
        record = {"settings": {"weights_sha256": "1" * 64, "spatial_sha256": f"{shard}" * 64}}
        (clips / f"shard_{shard}.run.json").write_text(json.dumps(record))
    assert evaluate(clips, "--metric", "psnr", "--clips", clips / "shard_0.csv", clips / "shard_1.csv") == 0
    assert pd.read_csv(clips / "scores/clips.csv")["clip_id"].tolist() == ["b", "c"]
    assert summary(clips)["unpaired"] == [{"clip_id": "gone", "missing_from": "real"}]
    said = summary(clips)["conditions"]
    assert said["weights_sha256"] == "1" * 64 and said["spatial_sha256"] == "mixed"


def test_memory_does_not_grow_with_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BATCH_PIXELS", 8 * 64 * 64)
    peaks = []
    for length in (40, 400):
        frames = np.zeros((length, 64, 64, 3), dtype=np.uint8)
        for side in ("ori", "rec"):
            save_clip(tmp_path / f"{length}/x_{side}/a.mkv", frames)
        tracemalloc.start()
        assert evaluate(tmp_path / str(length), "--metric", "psnr") == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000  # the longer clip's frames alone take 4,900,000 bytes


def test_variants_are_named_by_their_folder() -> None:
    assert variant_names([Path("r/x_rec"), Path("r/x_spatial")]) == ["rec", "spatial"]
    assert variant_names([Path("r/x_rec"), Path("r/x_y_rec_q8"), Path("r/x_q8")]) == ["rec", "rec_q8", "q8"]
    assert variant_names([Path("r/plain")]) == ["plain"]
    assert variant_names([Path("r/x_rec"), Path("r/y_rec")]) == ["x_rec", "y_rec"]
    assert variant_names([Path("r/x_rec"), Path("q/x_rec")]) == ["r/x_rec", "q/x_rec"]
