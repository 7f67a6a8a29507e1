"""Clips become latents for diffusion models, and latents videos again: resumable, sharded, and nothing is mixed up."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clips import cut
from material import make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.prefetch import prefetched
from video_vae.data.storage import read_lossless, write_lossless
from video_vae.data.table import Clip, write_table
from video_vae.data.transform import resize_crop, to_tensor, to_uint8
from video_vae.data.video import probe, read_clip
from video_vae.models import VideoAutoencoderKL


class Folder:
    """A working folder with a model and three clips: 48x56 pixels, and one of 37x42."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model: VideoAutoencoderKL = make_video_vae(path)
        odd = np.random.default_rng(0).integers(0, 256, (9, 37, 42, 3), dtype=np.uint8)
        self.clips = [
            make_clip(path, "long", 40, text='a "cat",\nasleep', split="train"),
            make_clip(path, "part", 30, start_frame=4, num_frames=18, split="test", fps=30000 / 1001),
            make_clip(path, "odd", 9, height=37, width=42),
        ]
        write_lossless(path / "odd.mkv", odd, 25)
        write_table(path / "clips.csv", self.clips)

    def encode(self, *options: str, output: str = "latents", clips: str = "clips.csv") -> int:
        given = [str(self.path / clips), "--model", str(self.path / "model"), "--output", str(self.path / output)]
        return main(["encode", *given, "--device", "cpu", *options])

    def decode(self, *options: str, output: str = "videos", model: str = "model") -> int:
        given = [str(self.path / "latents"), "--model", str(self.path / model), "--output", str(self.path / output)]
        return main(["decode", *given, "--device", "cpu", *options])

    def rows(self, name: str = "latents/index.csv") -> dict[str, dict[str, str]]:
        with (self.path / name).open(encoding="utf-8", newline="") as stream:
            return {row["clip_id"]: row for row in csv.DictReader(stream)}

    def latents(self, clip_id: str) -> torch.Tensor:
        with safe_open(self.path / "latents" / self.rows()[clip_id]["file"], "pt") as file:
            return file.get_tensor(clip_id)

    def pixels(self, clip: Clip, resolution: tuple[int, int] | None = None) -> torch.Tensor:
        frames = read_clip(clip)
        if resolution is not None:
            frames = resize_crop(frames, resolution)
        bottom, right = -frames.shape[1] % 8, -frames.shape[2] % 8
        return to_tensor(np.pad(frames, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge"))[None]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def files(folder: Folder, pattern: str = "*.safetensors") -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder.path / "latents").glob(pattern))}


def test_latents_are_those_of_the_model_and_the_index_tells_all(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.encode() == 0
    assert capsys.readouterr().out.endswith("index.csv: 3 clips, 67 frames, 0 failed\n")
    rows = folder.rows()
    for clip in folder.clips:
        with torch.no_grad():
            expected = folder.model.encode_latents(folder.pixels(clip))[0]
        torch.testing.assert_close(folder.latents(clip.clip_id), expected, atol=1e-4, rtol=0)
        row = rows[clip.clip_id]
        assert (row["path"], row["text"], row["split"]) == (clip.path, clip.text, clip.split)
        size = (row["frames"], row["height"], row["width"], row["latent_frames"])
        assert size == (str(clip.num_frames), str(clip.height), str(clip.width), str(expected.shape[1]))
    assert [rows[name]["fps"] for name in rows] == ["25", "29.97", "25"]
    (sha256,) = {row["model_sha256"] for row in rows.values()}
    record = json.loads((folder.path / "latents/run.json").read_text())
    assert sha256 == record["settings"]["weights_sha256"] and record["clips"] == 3


def test_settings_say_how_frames_are_seen(folder: Folder) -> None:
    config = json.dumps({"data": {"resolution": [32, 40], "frame_interval": 2}})
    assert folder.encode("--config", config) == 0
    with torch.no_grad():
        pixels = folder.pixels(folder.clips[0], (32, 40))[:, :, ::2]
        expected = folder.model.encode_latents(pixels)[0]
    found = folder.latents("long")
    assert found.dtype == torch.float16 and folder.rows()["long"]["fps"] == "12.5"  # latents.dtype
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=0)
    assert folder.encode("--resolution", "16", "24", "--dtype", "bfloat16") == 0
    assert folder.latents("odd").shape == (4, 3, 2, 3) and folder.latents("odd").dtype == torch.bfloat16


def test_a_run_that_was_cut_off_goes_on(folder: Folder) -> None:
    assert folder.encode("--file-size", "0.001") == 0
    before, rows = files(folder), folder.rows()
    assert len(before) == 3
    (folder.path / "latents/index.csv").unlink()
    (folder.path / "latents/shard_0-00001.safetensors").unlink()
    assert folder.encode("--file-size", "0.001") == 0
    after = files(folder)
    assert [name for name in after if after[name] != before[name]] == ["shard_0-00001.safetensors"]
    assert folder.rows() == rows
    # other clips or another size of the files: what is no longer named goes
    (folder.path / "latents/shard_0-99999.safetensors").write_bytes(b"of somebody else")
    assert folder.encode() == 0
    assert list(files(folder)) == ["shard_0-00000.safetensors", "shard_0-99999.safetensors"]


def test_jobs_share_the_clips_and_the_last_one_joins_their_lists(folder: Folder) -> None:
    for shard in (2, 0):
        assert folder.encode("--shards", "3", "--shard", str(shard)) == 0
        assert not (folder.path / "latents/index.csv").exists()
    assert folder.encode("--shards", "3", "--shard", "1") == 0
    rows = folder.rows()
    assert set(rows) == {"long", "part", "odd"}
    assert all(row["file"].startswith(("shard_0-", "shard_1-", "shard_2-")) for row in rows.values())
    second = list(folder.rows("latents/shard_1.csv"))
    # another model: its first job ends the index of the old one
    make_video_vae(folder.path, seed=1)
    assert folder.encode("--shards", "3", "--shard", "0") == 0
    assert not (folder.path / "latents/index.csv").exists()
    # a caller that joins by itself
    given = ["--shards", "3", "--index", str(folder.path / "mine/list.csv")]
    assert folder.encode(*given, "--shard", "1", output="mine") == 0
    assert list(folder.rows("mine/list.csv")) == second


def test_what_cannot_be_read_is_listed_and_left_out(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    cut(folder.path / "part.mkv", 0.5)
    assert folder.encode() == 0
    assert "2 clips, 49 frames, 1 failed" in capsys.readouterr().out
    assert list(folder.rows()) == ["long", "odd"] and list(folder.rows("latents/failed.csv")) == ["part"]
    (folder.path / "long.mkv").unlink()
    assert folder.encode("--dtype", "float16") == 2
    assert "long.mkv" in capsys.readouterr().err
    assert folder.encode(clips="odd.mkv", output="one") == 0  # a file is a source too
    assert folder.encode(clips="spatial", output="none") == 2


@pytest.mark.parametrize(("scope", "chunk"), [("clip", 17), ("frame", None), ("clip", None)])
def test_latents_become_videos_again(folder: Folder, scope: str, chunk: int | None) -> None:
    model = make_video_vae(folder.path, chunk_frames=chunk, norm_scope=scope)
    assert folder.encode() == 0 and folder.decode("--lossless") == 0
    for clip in folder.clips:
        made, fps = read_lossless(folder.path / f"videos/{clip.clip_id}.mkv")
        with torch.no_grad():
            expected = to_uint8(model.reconstruct(folder.pixels(clip))[0])[:, : clip.height, : clip.width]
        assert made.shape == expected.shape and fps == pytest.approx(clip.fps, rel=1e-5)
        assert np.abs(made.astype(int) - expected).max() <= 1


def test_decoding_goes_on_and_takes_no_other_model(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.encode() == 0
    assert folder.decode("--shards", "2", "--shard", "1") == 0
    assert [path.name for path in (folder.path / "videos").iterdir()] == ["part.mp4"]
    assert folder.decode() == 0
    assert "3 videos, 67 frames (1 were there)" in capsys.readouterr().out
    info = probe(folder.path / "videos/odd.mp4")
    assert (info.num_frames, info.height, info.width) == (9, 37, 42)
    shutil.copytree(folder.path / "model", folder.path / "same")
    make_video_vae(folder.path, seed=1)
    assert folder.decode() == 2 and "did not make the latents of long" in capsys.readouterr().err
    assert folder.decode(model="same") == 0 and "(3 were there)" in capsys.readouterr().out


def test_damaged_latents_and_a_missing_index_are_named(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.encode() == 0
    path = folder.path / "latents/shard_0-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)
    assert folder.decode() == 2
    assert re.search(r"shard_0-00000\.safetensors is damaged: the latents of \w+ are not", capsys.readouterr().err)
    (folder.path / "latents/index.csv").unlink()
    assert folder.decode() == 2 and "has no index.csv" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_refused_before_clips_are_probed(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", "nowhere", "--output", str(folder.path / "latents")]
    assert main(["encode", str(folder.path / "odd.mkv"), *given]) == 2
    said = "video-vae encode: model nowhere: no such file or folder; give a stage's model folder or a weights file\n"
    assert capsys.readouterr().err == said and not (folder.path / "latents").exists()


def test_images_are_clips_of_one_frame_where_asked_for(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    (folder.path / "mixed").mkdir()
    Image.new("RGB", (24, 16), "red").save(folder.path / "mixed/photo.png")
    shutil.copy(folder.path / "odd.mkv", folder.path / "mixed/odd.mkv")
    assert folder.encode(clips="mixed") == 0 and list(folder.rows()) == ["odd"]
    assert capsys.readouterr().out.endswith("0 failed, images left out: 1 (--images)\n")
    assert folder.encode("--images", clips="mixed") == 0 and capsys.readouterr().out.endswith("0 failed\n")
    assert folder.latents("photo").shape == (4, 1, 2, 3) and folder.rows()["photo"]["kind"] == "image"
    assert set(load_file(folder.path / "latents/shard_0-00000.safetensors")) == {"odd", "photo"}
    assert folder.decode() == 0 and probe(folder.path / "videos/photo.mp4").num_frames == 1


def test_prefetched_items_keep_their_order_and_their_errors() -> None:
    made: list[int] = []

    def items() -> object:
        """Count, then fail."""
        for number in range(5):
            made.append(number)
            yield number
        raise ValueError("the fifth")

    found = []
    with pytest.raises(ValueError, match="the fifth"):
        for item in prefetched(items(), 2):  # type: ignore[var-annotated, arg-type]
            found.append(item)
            assert len(made) <= len(found) + 3
    assert found == [0, 1, 2, 3, 4]
