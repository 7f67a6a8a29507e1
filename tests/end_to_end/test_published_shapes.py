"""A checkpoint with the published names and shapes goes through the whole workflow, to the table of scores."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from material import write_clips
from tiny_material import copy_project
from video_vae.config import Config
from video_vae.models import VideoAutoencoderKL
from video_vae.weights.files import WEIGHTS
from video_vae.weights.names import SDXL

FILE = "published.safetensors"
SETTINGS: dict[str, Any] = {
    "experiment": "published",
    "data": {"sources": ["clips"], "resolution": [32, 32], "min_size": 16, "min_frames": 9},
    "model": {"pretrained": FILE},
    "stages": None,
    "reconstruction": {"max_frames": 9, "windows": 1},
    "evaluation": {"metrics": ["psnr"], "bootstrap": 20, "baselines": False},
}


def write_published(path: Path) -> dict[str, Tensor]:
    """Write random weights, in half precision as the published ones (0.8 GB); return them."""
    net: Any = VideoAutoencoderKL
    with torch.device("meta"):
        made = net.from_config({**Config().model.model_dump(exclude={"temporal": {"init"}}), "spatial": dict(SDXL)})
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    tensors = {name: torch.randn(shape, generator=generator).half() * 0.02 for name, shape in shapes.items()}
    save_file(tensors, path)
    return tensors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_published_shapes_go_through_the_workflow(tmp_path: Path) -> None:
    copy_project(tmp_path)
    write_clips(tmp_path / "clips", frames=12)
    tensors = write_published(tmp_path / FILE)
    (tmp_path / "published.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/metrics.csv", "--configfile"]
    result = subprocess.run([*command, "published.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    start = tmp_path / "results/published/start"
    found = load_file(start / "model" / WEIGHTS)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name].float()) for name in tensors)
    parameters = json.loads((start / "run.json").read_text(encoding="utf-8"))["parameters"]
    assert parameters == sum(map(torch.numel, tensors.values())) - 8  # scale and shift are no parameters
    with (tmp_path / "results/metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["stage"], row["variant"]) for row in rows] == [("start", "rec"), ("start", "spatial")]
    assert all(np.isfinite(float(row["psnr"])) and int(row["frames"]) == 9 for row in rows)
