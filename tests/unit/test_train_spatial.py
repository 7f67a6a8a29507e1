"""The small spatial VAE: what its training writes, and that a killed one goes on to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metrics_material import write_lpips
from training_material import MODEL_FILE, make_data
from video_vae.cli import main
from video_vae.config import Spatial
from video_vae.training.spatial import SpatialTrainer
from video_vae.weights.loading import load_spatial

TRAINING = {"steps": 6, "batch": 2, "crop": 32, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
TRAINING |= {"optimizer": "muon", "squared_weight": 1.0, "perceptual_weight": 0.1, "perceptual_every": 2}
TRAINING |= {"perceptual_net": "alex", "perceptual_crops": 1}
CONFIG = {"data": {"resolution": [32, 32]}, "spatial": {"pretrained": None, "training": TRAINING}}


def _train(data: Path, output: Path) -> int:
    tables = ["--data-path", str(data / "train.csv"), "--valid-path", str(data / "test.csv"), "--lpips", str(data)]
    return main(["train-spatial", json.dumps(CONFIG), *tables, "--output", str(output)])


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path)
    write_lpips(tmp_path)
    assert _train(tmp_path, tmp_path / "whole" / "spatial") == 0

    step = SpatialTrainer.train_step

    def interrupted(trainer: SpatialTrainer) -> dict[str, float]:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(SpatialTrainer, "train_step", interrupted)
        assert _train(tmp_path, tmp_path / "again" / "spatial") == 130
    assert not (tmp_path / "again" / "spatial").exists()
    assert _train(tmp_path, tmp_path / "again" / "spatial") == 0

    whole, again = (tmp_path / name / "spatial" for name in ("whole", "again"))
    assert (whole / MODEL_FILE).read_bytes() == (again / MODEL_FILE).read_bytes()
    record = json.loads((again / "run.json").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = record["log"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and all(row["psnr"] > 0 for row in rows)
    for row in rows:  # LPIPS in every second step, where it counts twice
        parts = row["l1"] + 1e-6 * row["kl"] + row["squared"] + 0.2 * row.get("lpips", 0.0)
        assert ("lpips" in row) == (row["step"] % 2 == 0) and row["loss"] == pytest.approx(parts, rel=1e-5)
    assert "lpips" in record["inputs"]
    assert not (tmp_path / "again" / "state" / "spatial").exists() or not any(
        (tmp_path / "again" / "state" / "spatial").iterdir()
    )
    load_spatial(Spatial(pretrained=None), again)
