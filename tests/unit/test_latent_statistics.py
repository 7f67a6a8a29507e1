"""Shift and scale are the mean and the standard deviation of all latents, however they are read and split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from material import TEMPORAL, make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.table import write_table
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.data.video import read_clip
from video_vae.latents.statistics import Moments

CONFIG = {"data": {"resolution": [32, 40]}, "model": {"temporal": TEMPORAL}, "latents": {"dtype": "float32"}}


def measure(folder: Path, *options: str) -> dict:
    where = [f"--ckpt-path={folder / 'model'}", f"--data-path={folder / 'test.csv'}", f"--output={folder / 'out.json'}"]
    assert main(["latent-statistics", json.dumps(CONFIG), *where, "--device=cpu", *options]) == 0
    return json.loads((folder / "out.json").read_text())


def test_merged_moments_equal_those_of_all_values_at_once() -> None:
    # a large mean over a small spread: what sums of squares lose
    values = 1e6 + torch.randn(1, 3, 5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = values.split([1, 3, 1], dim=2)
    merged = Moments.of(parts[0]).merged(Moments.of(parts[1])).merged(Moments.of(parts[2]))
    np.testing.assert_allclose(merged.mean, values.mean((0, 2, 3, 4)).numpy(), rtol=1e-14)
    np.testing.assert_allclose(merged.std, values.std((0, 2, 3, 4), correction=0).numpy(), rtol=1e-9)
    assert merged.count == 120


def test_statistics_of_pixels_and_of_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_video_vae(tmp_path)
    clips = [make_clip(tmp_path, "a", 40), make_clip(tmp_path, "bb", 5)]
    broken = make_clip(tmp_path, "broken", 9)
    (tmp_path / "broken.mkv").write_text("no video")
    write_table(tmp_path / "test.csv", [*clips, broken])
    latents = []
    with torch.no_grad():
        for clip in clips:
            pixels = to_tensor(resize_crop(read_clip(clip), (32, 40)))[None]
            latents.append((model.encode_latents(pixels) * model.scale + model.shift)[0].flatten(1))
    expected = torch.cat(latents, dim=1).double()
    found = measure(tmp_path)
    np.testing.assert_allclose(found["shift"], expected.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["scale"], expected.std(1, correction=0), rtol=1e-4)
    assert (found["clips"], found["frames"], list(found["failed"])) == (2, 45, ["broken"])
    assert found["values_a_channel"] == expected.shape[1]
    assert all(sampled > mode for sampled, mode in zip(found["sampled_scale"], found["scale"], strict=True))
    assert capsys.readouterr().out.startswith("shift ")
    assert json.loads((tmp_path / "out.run.json").read_text())["command"] == "latent-statistics"

    cache = f"--output={tmp_path / 'cache.safetensors'}"
    tables = [f"--data-path={tmp_path / 'test.csv'}", f"--spatial={tmp_path / 'spatial'}", "--device=cpu"]
    assert main(["encode-latents", json.dumps(CONFIG), *tables, cache]) == 0
    cached = measure(tmp_path, f"--latents={tmp_path / 'cache.safetensors'}")
    np.testing.assert_allclose(cached["shift"], found["shift"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cached["scale"], found["scale"], rtol=1e-4)
    assert list(cached["failed"]) == ["broken"]
