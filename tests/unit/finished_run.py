"""A finished run: a real manifest and a real table of metrics, the jobs between them played by small files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from video_vae.cli import main
from video_vae.config import Config, load_config, parse_config
from video_vae.config.slices import reconstruct_slice, stage_slice
from video_vae.data.storage import write_preview
from video_vae.provenance import Part, run_record, write_json_atomic

RESULTS = Path("results/demo")
SETTINGS: dict[str, Any] = {
    "experiment": "demo",
    "data": {"sources": ["clips.csv"], "min_size": 16, "split": {"test_fraction": 0.5}},
    "stages": {"stage1": {"steps": 3}},
    "evaluation": {"bootstrap": 7},
}
SUMMARY = {
    "conditions": {"flow": "dis", "resolution": "16x16", "lpips": {}, "spatial_sha256": "ab", "version": "1"},
    "variants": {
        "rec": {
            "clips": 1,
            "frames": 17,
            "psnr": {"mean": 24.81, "std": 1.0, "low": 24.0, "high": 25.0},
            "psnr_pooled": {"mean": 24.5},
            "psnr_capped": 0,
        }
    },
}


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def cut(slicer: Callable[..., Any], *names: str) -> Config:
    return parse_config(slicer(load_config("demo.yaml"), *names))


def finish_run(folder: Path) -> None:
    """Run everything in a folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        _run_all(monkeypatch)


def _run_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_VAE_CONFIG_FILES", "demo.yaml")
    written(Path("demo.yaml"), yaml.safe_dump(SETTINGS))
    Path("clips").mkdir()
    for number in (0, 1):
        frames = np.random.default_rng(number).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
        write_preview(Path(f"clips/{number}.mp4"), frames, 24)
    written(Path("clips.csv"), "path\nclips/0.mp4\nclips/1.mp4\n")
    assert main(["manifest", "demo.yaml", "--output-dir", str(RESULTS / "data"), "--workers", "1"]) == 0
    weights = written(Path("resources/lpips/alex.safetensors"), "heads")
    model = written(RESULTS / "stage1/model/model.safetensors", "weights").parent
    train, test = RESULTS / "data/train.csv", RESULTS / "data/test.csv"
    record = run_record("train", cut(stage_slice, "stage1"), {"train": train}, outputs={"model": model}, stage="stage1")
    write_json_atomic(RESULTS / "stage1/run.json", record)
    clip = written(RESULTS / "stage1/reconstruction_rec/0.mkv", "frames")
    index = written(RESULTS / "stage1/reconstruction/shard_0.csv", "clip_id\n0\n")
    made: dict[str, str | Path | Part | None] = {"index": index, "rec": Part(clip.parent, [clip.name])}
    read: dict[str, str | Path | Part] = {"checkpoint": model, "table": test}
    record = run_record("reconstruct", cut(reconstruct_slice), read, outputs=made, settings={})
    write_json_atomic(index.with_suffix(".run.json"), record)
    summary = written(RESULTS / "stage1/metrics/summary.json", json.dumps(SUMMARY))
    read = {"list": index, "clips": Part(clip.parent, [clip.name]), "lpips": weights}
    options = {"metric": ["psnr", "ssim", "lpips", "flolpips", "flicker"], "flow": "auto", "bootstrap": 7}
    write_json_atomic(summary.parent / "run.json", run_record("evaluate", options, read, outputs={"summary": summary}))
    assert main(["collect-metrics", f"demo:stage1:{summary}", "--output", "results/metrics.csv"]) == 0


def verify(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str]]:
    capsys.readouterr()
    try:
        status = main(["verify", *map(str, arguments)])
    except SystemExit as end:
        status = int(str(end.code))
    return status, capsys.readouterr().out.splitlines()
