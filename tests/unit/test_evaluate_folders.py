"""What is scored and what is left out: lengths that differ, folders of frames, subfolders, names of folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from metrics_material import bikes, save_clip
from report_material import build_report, make_results
from video_vae.cli import main_for
from video_vae.config.schema import LPIPS_PACKAGE
from video_vae.data.packages import cached_archive
from video_vae.metrics.pairing import variant_names


def evaluate(real: Path, *generated: Path | str, options: tuple[str | Path, ...] = ()) -> int:
    where = [f"--real_video_dir={real}", "--generated_video_dir", *map(str, generated), "--device=cpu"]
    return main_for("evaluate", [*where, "--metric", "psnr", "--output_dir", str(real / ".scores"), *map(str, options)])


def summary(real: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((real / ".scores/summary.json").read_text())
    return values


def save_frames(folder: Path, frames: np.ndarray, name: str = "{:d}.png") -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / name.format(index))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Originals of 12 frames; of the reconstructions a and b have 9, c has 12."""
    real, generated = (np.concatenate([frames, frames[::-1]]) for frames in bikes())
    for name, count in (("a", 9), ("b", 9), ("c", 12)):
        save_clip(tmp_path / "ori" / f"{name}.mkv", real)
        save_clip(tmp_path / "rec" / f"{name}.mkv", generated[:count])
    return tmp_path


def test_truncated_reconstructions_are_counted_named_and_fail_where_strict(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips / "ori", clips / "rec") == 0
    expected = (
        "2 of 3 clips are shorter than the original, only the frames that both have count: "
        "a (rec: 9 frames, original 12), b (rec: 9 frames, original 12)"
    )
    assert capsys.readouterr().err.count(expected) == 1
    assert summary(clips / "ori")["warnings"] == [expected]
    assert summary(clips / "ori")["variants"]["rec"]["frames"] == 30
    (clips / "ori/.scores/summary.json").unlink()
    assert evaluate(clips / "ori", clips / "rec", options=("--strict",)) == 2
    assert "2 clips have no partner, were refused or differ in length" in capsys.readouterr().err
    assert not (clips / "ori/.scores/summary.json").exists()
    assert evaluate(clips / "ori", clips / "rec", options=("--strict", "--num_frames", "9")) == 0
    assert summary(clips / "ori")["warnings"] == []


def test_reconstructions_longer_than_their_originals_are_named_too(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips / "rec", clips / "ori", options=("--batch_size", "1")) == 0
    assert "2 of 3 clips are longer than the original" in capsys.readouterr().err
    assert "a (ori: 12 frames, original 9)" in summary(clips / "rec")["warnings"][0]
    assert evaluate(clips / "rec", clips / "ori", options=("--strict",)) == 2


def test_the_report_shows_what_was_left_out(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=6)
    path = tmp_path / "results/demo/stage3/metrics/summary.json"
    said = json.loads(path.read_text()) | {"warnings": ["2 of 3 clips are shorter than the original: <a>"]}
    path.write_text(json.dumps(said))
    page = build_report(config, tmp_path / "results", tmp_path / "report.html")
    assert "demo/stage3: 2 of 3 clips are shorter than the original: &lt;a&gt;" in page


def test_folders_of_frames_are_clips(tmp_path: Path) -> None:
    """Twelve frames, so that the order of 10.png and 2.png matters; partners may be stored in another way."""
    real, generated = (np.concatenate([frames, frames[::-1]]) for frames in bikes())
    save_frames(tmp_path / "ori/a", real)
    save_frames(tmp_path / "rec/a", generated, "frame_{:04d}.png")
    save_clip(tmp_path / "ori/b.mkv", real)
    save_frames(tmp_path / "rec/b", generated)
    assert evaluate(tmp_path / "ori", tmp_path / "rec") == 0
    frames = pd.read_parquet(tmp_path / "ori/.scores/frames.parquet")
    error = np.square(real / 255.0 - generated / 255.0).mean(axis=(1, 2, 3))
    for name in "ab":
        np.testing.assert_allclose(frames[frames.clip_id == name]["mse"], error, rtol=1e-4)
    found = summary(tmp_path / "ori")
    assert found["conditions"]["lossless"] and found["conditions"]["storage"]["rec"] == "png images, a folder per clip"
    record = json.loads((tmp_path / "ori/.scores/run.json").read_text())
    assert "a/frame_0012.png" in record["inputs"][f"clips {tmp_path / 'rec'}"]["files"]
    assert evaluate(tmp_path / "ori", tmp_path / "rec", options=("--sample_rate", "5")) == 0
    frames = pd.read_parquet(tmp_path / "ori/.scores/frames.parquet")
    np.testing.assert_allclose(frames[frames.clip_id == "a"]["mse"], error[::5], rtol=1e-4)


def test_faulty_folders_of_frames_are_refused_by_name(tmp_path: Path) -> None:
    real, _ = bikes()
    for name in ("hole", "twice", "sizes", "broken", "stride"):
        save_frames(tmp_path / "ori" / name, real)
        save_frames(tmp_path / "rec" / name, real)
    (tmp_path / "rec/hole/4.png").unlink()
    Image.fromarray(real[0]).save(tmp_path / "rec/twice/02.png")
    Image.fromarray(real[0, :32]).save(tmp_path / "rec/sizes/3.png")
    (tmp_path / "rec/broken/5.png").write_bytes(b"no image")
    for number in (1, 3, 5):  # every second frame is a sequence without a hole
        (tmp_path / f"rec/stride/{number}.png").unlink()
    assert evaluate(tmp_path / "ori", tmp_path / "rec") == 0
    reasons = {clip["clip_id"]: clip["reason"] for clip in summary(tmp_path / "ori")["refused"]}
    assert set(reasons) == {"hole", "twice", "sizes", "broken"}
    assert "frames are missing between 3.png and 5.png" in reasons["hole"]
    assert "02.png and 2.png are the same frame" in reasons["twice"]
    assert "3.png and 1.png differ in size: 32x64 and 64x64" in reasons["sizes"]
    assert "frame 5.png" in reasons["broken"]


def test_subfolders_that_are_no_clips_are_named(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "rec/cats").mkdir()
    save_clip(clips / "rec/cats/c.mkv", bikes()[0])
    assert evaluate(clips / "ori", clips / "rec") == 0
    assert "subfolder not read, such as" in capsys.readouterr().err
    assert any(str(clips / "rec/cats") in text for text in summary(clips / "ori")["warnings"])
    for side in ("ori", "rec"):
        (clips / "set" / side).mkdir(parents=True)
        (clips / side).rename(clips / "set" / side / "dogs")
    assert evaluate(clips / "set/ori", clips / "set/rec") == 2
    said = capsys.readouterr().err
    assert "no clip of" in said and "2 subfolders not read, such as" in said and said.count("\n") == 1


def test_a_generated_folder_may_be_called_real(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clips / "rec").rename(clips / "real")
    assert evaluate(clips / "ori", clips / "real") == 0
    assert list(summary(clips / "ori")["variants"]) == ["generated"]
    monkeypatch.chdir(clips)
    assert evaluate(clips / "ori", "real", "ori") == 0
    assert list(summary(clips / "ori")["variants"]) == ["generated", "ori"]


def test_names_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert variant_names([Path("x_real"), Path("y_real")]) == ["x_real", "y_real"]
    assert variant_names([Path("a/real"), Path("b/real")]) == ["a/real", "b/real"]
    assert variant_names([Path("real"), Path("b/real")]) == [str(tmp_path / "real"), str(tmp_path / "b/real")]
    save_clip(tmp_path / "ori/a.mkv", bikes()[0])
    save_clip(tmp_path / "rec/a.mkv", bikes()[1])
    assert evaluate(tmp_path / "ori", "rec", "ori/../rec") == 2
    assert "given twice" in capsys.readouterr().err


def test_outside_a_project_the_weights_of_lpips_are_fetched_once_into_the_users_cache(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = cached_archive(LPIPS_PACKAGE)
    cache = tmp_path / "cache" / "video-vae"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.delenv("VIDEO_VAE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # no network
    monkeypatch.setenv("PIP_RETRIES", "0")
    given = [f"--real_video_dir={clips / 'ori'}", f"--generated_video_dir={clips / 'rec'}", "--device=cpu"]
    given += ["--metric", "lpips", "--num_frames", "2"]
    assert main_for("evaluate", given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no LPIPS weights in resources/lpips or " in said and "could not be fetched" in said
    assert "name it by --lpips, or leave LPIPS out" in said

    (cache / "packages" / LPIPS_PACKAGE.sha256).mkdir(parents=True)
    (cache / "packages" / LPIPS_PACKAGE.sha256 / archive.name).symlink_to(archive)
    assert main_for("evaluate", given) == 0
    assert f"fetched once, into {cache / 'lpips'}" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())
    (cache / "packages" / LPIPS_PACKAGE.sha256 / archive.name).unlink()
    assert main_for("evaluate", given) == 0
    assert "fetched" not in capsys.readouterr().err
