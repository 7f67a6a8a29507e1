"""Rivals see the same windows as the video VAE: another spatial VAE frame by frame, or videos made elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from material import make_clip, make_spatial
from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.config.runs import RivalName, evaluation_owner, resolve
from video_vae.config.slices import reconstruct_slice, rival_slice
from video_vae.data.storage import read_lossless, write_lossless, write_preview
from video_vae.data.table import write_table
from video_vae.data.transform import to_tensor, to_uint8
from video_vae.errors import UserError

SIZE = (40, 48)
WINDOWS = {"long": 9, "long@16": 9, "long@31": 9, "short": 6}


class Folder:
    """Held-out clips, and the commands that make and score a rival of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_table(path / "test.csv", [make_clip(path, "long", 40), make_clip(path, "short", 6)])

    def make(self, rival: dict[str, str], *options: str, name: str = "my_vae") -> int:
        config = {
            "data": {"resolution": list(SIZE)},
            "reconstruction": {"max_frames": 9},
            "compare": {name: rival},
        }
        command = ["reconstruct", json.dumps(config), "--rival", name, f"--data-path={self.path / 'test.csv'}"]
        return main([*command, f"--save-dir={self.path / 'out/clips'}", "--device=cpu", "--no-previews", *options])

    def score(self, name: str = "my_vae") -> dict:
        out = self.path / "out"
        folders = ["--real_video_dir", str(out / "clips_ori"), "--generated_video_dir", str(out / f"clips_{name}")]
        what = ["--variant", name, "--metric", "psnr", "--device", "cpu", "--strict"]
        where = ["--clips", str(out / "clips/index.csv"), "--output_dir", str(out / "metrics")]
        assert main(["evaluate", *folders, *what, *where]) == 0
        return json.loads((out / "metrics/summary.json").read_text(encoding="utf-8"))

    def stored(self, variant: str, clip: str) -> np.ndarray:
        return read_lossless(self.path / f"out/clips_{variant}" / f"{clip}.mkv")[0]

    def given(self) -> Path:
        """Make somebody's videos: the originals a little darker, one of them as a folder of frames."""
        assert self.make({"spatial": str(self.path / "sd")}) == 0
        folder = self.path / "theirs"
        for clip in WINDOWS:
            write_lossless(folder / f"{clip}.mkv", self.stored("ori", clip) // 2, 25)
        (folder / "short.mkv").unlink()
        (folder / "short").mkdir()
        for number, frame in enumerate(self.stored("ori", "short") // 2):
            Image.fromarray(frame).save(folder / "short" / f"{number:03d}.png")
        return folder

    def rows(self, file: str = "out/clips/index.csv") -> list[dict[str, str]]:
        with (self.path / file).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    make_spatial(tmp_path / "sd", seed=3)
    return Folder(tmp_path)


def test_another_spatial_vae_sees_every_frame_by_itself(folder: Folder) -> None:
    assert folder.make({"spatial": str(folder.path / "sd")}) == 0
    assert {row["clip_id"]: int(row["frames"]) for row in folder.rows()} == WINDOWS
    net = AutoencoderKL.from_pretrained(folder.path / "sd").eval()
    for clip in WINDOWS:
        frames, made = folder.stored("ori", clip), folder.stored("my_vae", clip)
        with torch.no_grad():
            single = [net.decode(net.encode(to_tensor(f[None])[:, 0][None]).latent_dist.mode()).sample for f in frames]
        expected = np.concatenate([to_uint8(frame.transpose(0, 1)) for frame in single])
        assert np.abs(made.astype(int) - expected).max() <= 1
    summary = folder.score()
    assert list(summary["variants"]) == ["my_vae"] and summary["variants"]["my_vae"]["clips"] == 2
    assert summary["conditions"]["lossless"]


def test_a_net_of_another_kind_of_latents_is_taken(folder: Folder) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    net = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=16, use_quant_conv=False, **blocks
    )
    net.save_pretrained(folder.path / "wide")
    assert folder.make({"spatial": str(folder.path / "wide")}) == 0
    assert folder.stored("my_vae", "long").shape == (9, *SIZE, 3)


def test_videos_made_elsewhere_are_scored_as_they_are(folder: Folder) -> None:
    videos = folder.given()
    assert folder.make({"videos": str(videos)}, name="theirs") == 0
    for clip in WINDOWS:
        np.testing.assert_array_equal(folder.stored("theirs", clip), folder.stored("ori", clip) // 2)
    record = json.loads((folder.path / "out/clips/run.json").read_text(encoding="utf-8"))
    assert record["settings"] == {"rival": "theirs"}
    assert sorted(record["inputs"]["videos"]["files"])[:2] == ["long.mkv", "long@16.mkv"]
    summary = folder.score("theirs")
    assert summary["conditions"]["lossless"] and summary["variants"]["theirs"]["clips"] == 2
    assert len(pd.read_parquet(folder.path / "out/metrics/frames.parquet")) == sum(WINDOWS.values())


def test_a_lossy_video_is_said_to_be_one_after_it_was_taken_over(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = folder.given()
    (videos / "long.mkv").unlink()
    write_preview(videos / "long.mp4", folder.stored("ori", "long"), 25)
    assert folder.make({"videos": str(videos)}, name="theirs") == 0
    said = folder.score("theirs")["conditions"]
    assert not said["lossless"] and "mp4 video as found, its coding losses included" in said["storage"]["theirs"]
    assert said["storage"]["real"].startswith("FFV1")
    assert "not stored losslessly" in capsys.readouterr().out


def test_only_the_video_that_changed_is_taken_over_again(folder: Folder) -> None:
    videos = folder.given()
    assert folder.make({"videos": str(videos)}, name="theirs") == 0
    write_lossless(videos / "long.mkv", folder.stored("ori", "long") // 3, 25)
    assert folder.make({"videos": str(videos)}, name="theirs") == 0
    record = json.loads((folder.path / "out/clips/run.json").read_text(encoding="utf-8"))
    assert (record["clips"], record["kept"]) == (4, 3)
    np.testing.assert_array_equal(folder.stored("theirs", "long"), folder.stored("ori", "long") // 3)


def _lose(videos: Path) -> str:
    (videos / "long@16.mkv").unlink()
    return "long@16: there is no video and no folder of frames of that name in "


def _shorten(videos: Path) -> str:
    write_lossless(videos / "long.mkv", read_lossless(videos / "long.mkv")[0][:7], 25)
    return "has 7 frames of 40x48 (height x width), expected are 9 frames of 40x48"


def _enlarge(videos: Path) -> str:
    write_lossless(videos / "long.mkv", read_lossless(videos / "long.mkv")[0].repeat(2, axis=2), 25)
    return "has 9 frames of 40x96 (height x width), expected are 9 frames of 40x48"


def _drop_a_frame(videos: Path) -> str:
    (videos / "short" / "002.png").unlink()
    return "frames are missing between 001.png and 003.png"


def _tear(videos: Path) -> str:
    (videos / "long.mkv").write_bytes((videos / "long.mkv").read_bytes()[:400])
    return "long.mkv"


@pytest.mark.parametrize("harm", [_lose, _shorten, _enlarge, _drop_a_frame, _tear])
def test_videos_that_do_not_fit_are_refused_before_anything_is_scored(
    folder: Folder, capsys: pytest.CaptureFixture[str], harm: object
) -> None:
    videos = folder.given()
    said = harm(videos)  # type: ignore[operator]
    capsys.readouterr()
    assert folder.make({"videos": str(videos)}, name="theirs") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "compare.theirs: 1 of 4 clips cannot be compared" in error and said in error and "failed.csv" in error
    assert not (folder.path / "out/clips/index.csv").exists()
    assert len(folder.rows("out/clips/failed.csv")) == 1


def test_frames_of_another_size_are_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 5, "up_block_types": ("UpDecoderBlock2D",) * 5}
    net = AutoencoderKL(block_out_channels=(8,) * 5, norm_num_groups=4, **blocks)
    net.save_pretrained(folder.path / "coarse")
    assert folder.make({"spatial": str(folder.path / "coarse")}) == 2
    assert "frames of 40x48 come back as 32x48" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("compare", "said"),
    [
        ({"rec": {"spatial": "a/b"}}, "'rec' is the name of a stage or variant"),
        ({"stage2": {"spatial": "a/b"}}, "'stage2' is the name of a stage or variant"),
        ({"Mean": {"spatial": "a/b"}}, "'Mean' is the name of a stage or variant"),
        ({"short": {"videos": "x"}}, "'short' is the name of a run too"),
        ({"paper": {"videos": "x"}}, "'paper' is the name of a run too"),
        ({"a b": {"videos": "x"}}, "compare.a b"),
        ({"x": {}}, "compare.x: nothing given; name one of spatial"),
        ({"x": {"videos": "x", "spatial": "a/b"}}, "compare.x: spatial and videos given"),
        ({"x": {"codec": "x264", "spatial": "a/b"}}, "compare.x: spatial and codec given"),
        ({"x": {"codec": "x266"}}, "compare.x.codec: "),
        ({"x": {"videos": "x", "sha256": "0" * 64}}, "compare.x: subfolder and sha256 go with spatial"),
        ({"x": {"videos": "https://a/b"}}, "compare.x.videos: an address"),
        ({"x": {"video": "x"}}, "unknown key compare.x.video"),
    ],
)
def test_names_and_kinds_are_checked(compare: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_config({"compare": compare, "experiments": {"short": {"seed": 1}}})


def test_a_rival_is_one_runs_own_only_where_its_clips_or_windows_are_others() -> None:
    theirs = {"compare": {"theirs": {"videos": "x"}}}
    config = parse_config(
        {
            "experiment": "base",
            "experiments": {
                "longer": {"stages": {"stage3": {"steps": 3}}},
                "wider": {"data": {"resolution": [64, 64]}},
                "alone": {"compare": {"theirs": None}},
            },
            **theirs,
        }
    )
    runs = resolve(config)
    owners = {name: evaluation_owner(runs, name, RivalName("theirs")) for name in runs}
    assert owners == {"base": "base", "longer": "base", "wider": "wider", "alone": "alone"}
    assert not runs["alone"].compare
    assert reconstruct_slice(config) == reconstruct_slice(parse_config({"experiment": "base"}))
    assert parse_config(rival_slice(config, "theirs")).compare == config.compare
    with pytest.raises(UserError, match="no rival 'ours' under compare; known: theirs"):
        rival_slice(config, "ours")


def test_a_rival_that_the_config_does_not_name_is_told(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data-path", str(folder.path / "test.csv"), "--save-dir", str(folder.path / "out/clips")]
    assert main(["reconstruct", "{}", "--rival", "x", "--device=cpu", *options]) == 2
    assert "--rival x: no such name under compare; known: none" in capsys.readouterr().err
    assert main(["reconstruct", "{}", "--rival", "x", "--baselines", *options]) == 2
    assert "--baselines does not go with --rival" in capsys.readouterr().err


def test_names_for_the_generated_folders_are_one_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--real_video_dir", str(tmp_path), "--generated_video_dir", str(tmp_path / "a"), str(tmp_path / "b")]
    for names in (["x"], ["x", "x"], ["real", "x"]):
        assert main(["evaluate", *folders, "--variant", *names]) == 2
        assert "give a name for each of the 2 generated folders" in capsys.readouterr().err
