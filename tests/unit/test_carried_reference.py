"""The carried reference: its files are those of its records, and its records those of the config that makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from video_vae.config import load_config
from video_vae.config.runs import resolve
from video_vae.provenance import sha256_path
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_spatial
from video_vae.weights.start import load_pretrained

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflow/weights/reference"


def record(stage: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((FOLDER / f"{stage}_run.json").read_text(encoding="utf-8"))
    return values


def test_its_files_are_those_that_its_record_names() -> None:
    files = record("stage2")["outputs"]["model"]["files"]
    assert {name: sha256_path(FOLDER / name) for name in files} == {name: one["sha256"] for name, one in files.items()}


def test_the_config_still_makes_it() -> None:
    config = load_config(ROOT / "config/reference.yaml")
    for stage in ("stage1", "stage2"):
        recorded = record(stage)["config"]
        for part in ("model", "spatial"):
            assert getattr(config, part).model_dump(mode="json") == recorded[part]
        assert config.stages.model_dump(mode="json")[stage] == recorded["stages"][stage]


def test_the_demo_starts_from_it_and_its_spatial_vae_is_the_carried_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    config = resolve(load_config(ROOT / "config/demo.yaml"))["reference"]
    net, _ = load_pretrained(config)
    assert net.temporal.config["pad_mode"] == "replicate"
    assert weights_sha256(net.spatial.state_dict()) == weights_sha256(load_spatial(config.spatial).state_dict())
