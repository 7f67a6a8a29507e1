"""Clips that an earlier cache holds, by content and settings, are taken from there: only new ones are encoded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from material import make_clip, make_spatial
from video_vae.cli import main
from video_vae.data.table import Clip, write_table
from video_vae.files import sha256_file
from video_vae.latents.cache import LatentCache

CONFIG = {"data": {"resolution": [32, 32]}, "spatial": {"pretrained": None}}


def clip_of(folder: Path, name: str, frames: int) -> Clip:
    clip = make_clip(folder, name, frames)
    return replace(clip, source_id=sha256_file(clip.path)[:16])


def encode(folder: Path, output: str, *options: str, config: dict = CONFIG, reuse: bool = False) -> int:
    where = [f"--output={folder / output}", "--device=cpu", *options]
    where += [f"--spatial={folder / 'spatial'}", *([f"--reuse={folder / 'latents'}"] if reuse else [])]
    return main(["encode-latents", json.dumps(config), f"--data-path={folder / 'train.csv'}", *where])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, a spatial VAE and their cache; then the files of the clips are gone, so that none can be encoded."""
    make_spatial(tmp_path / "spatial")
    clips = [clip_of(tmp_path, "one", 7), clip_of(tmp_path, "two", 5)]
    write_table(tmp_path / "train.csv", clips)
    assert encode(tmp_path, "latents/first/shard_0.safetensors") == 0
    for clip in clips:
        Path(clip.path).unlink()
    new = clip_of(tmp_path, "new", 6)
    write_table(tmp_path / "train.csv", [replace(clips[1], clip_id="renamed"), new, clips[0]])
    return tmp_path


def windows(path: Path) -> dict[str, torch.Tensor]:
    cache = LatentCache([path])
    return {name: cache.window(name, 0, cache.num_frames(name)) for name in cache.clip_ids}


def test_only_new_clips_are_encoded_where_the_cache_is_made_again(folder: Path) -> None:
    output = folder / "latents/first/shard_0.safetensors"
    before = windows(output)
    output.unlink()  # as a workflow does before a job runs again
    assert encode(folder, "latents/first/shard_0.safetensors") == 0
    after = windows(output)
    assert list(after) == ["renamed", "new", "one"]
    assert torch.equal(after["one"], before["one"]) and torch.equal(after["renamed"], before["two"])


def test_caches_of_other_lists_of_clips_are_looked_into(folder: Path) -> None:
    assert encode(folder, "latents/second/shard_0.safetensors", reuse=True) == 0
    before, after = (windows(folder / f"latents/{name}/shard_0.safetensors") for name in ("first", "second"))
    assert torch.equal(after["one"], before["one"]) and len(after) == 3


def test_shards_share_the_clips_by_content(folder: Path) -> None:
    for shard in range(4):
        assert (
            encode(folder, f"latents/four/shard_{shard}.safetensors", f"--shard={shard}", "--shards=4", reuse=True) == 0
        )
    cache = LatentCache([folder / f"latents/four/shard_{shard}.safetensors" for shard in range(4)])
    assert sorted(cache.clip_ids) == ["new", "one", "renamed"]  # some shards are empty


@pytest.mark.parametrize("change", ["settings", "damage", "elsewhere"])
def test_what_is_not_the_same_is_encoded_anew(folder: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, reuse = CONFIG, True
    if change == "settings":
        config = {**CONFIG, "data": {"resolution": [40, 40]}}
    elif change == "damage":
        file = folder / "latents/first/shard_0.safetensors"
        content = bytearray(file.read_bytes())
        for place in range(-3100, -100, 50):  # before the checksums
            content[place] ^= 1
        file.write_bytes(content)  # its second name too
    else:
        reuse = False
    assert encode(folder, "latents/second/shard_0.safetensors", config=config, reuse=reuse) != 0
    assert "put the file back" in capsys.readouterr().err  # it had to be encoded


def test_how_many_clips_were_taken_over_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(folder, "latents/second/shard_0.safetensors", reuse=True) == 0
    assert "2 of 3 clips are in an earlier cache" in capsys.readouterr().err
