"""Compare what a file is read as with what it shows, and make reading it go wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from video_vae.data.table import Clip
from video_vae.data.video import probe, read_frames

ROOT = Path(__file__).parents[1]


def assert_reads_as(path: Path, shown: np.ndarray) -> None:
    """See that a file has these frames, in order and wherever reading starts."""
    info = probe(path)
    assert info.num_frames == len(shown)
    assert np.array_equal(read_frames(path, range(len(shown))), shown)
    for start in range(0, len(shown), 5):
        window = range(start, min(start + 4, len(shown)))
        assert np.array_equal(read_frames(path, window), shown[window]), window
    scattered = [int(index) for index in np.random.default_rng(0).integers(0, len(shown), 6)]
    assert np.array_equal(read_frames(path, scattered), shown[scattered])


def run_first(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run code at the start of every Python process that is started from now on; it lies in a folder."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT / "src")]))


def make_clip(path: Path, frames: int, **values: object) -> Clip:
    """Make the row of a table for a whole video."""
    sizes = {"height": 96, "width": 128, "aspect_ratio": 0.75, "resolution": 96 * 128, "text": "", "split": ""}
    names = {"clip_id": "a", "path": str(path), "kind": "video", "source_id": "0", "start_frame": 0, "fps": 25.0}
    return Clip(**({"num_frames": frames} | sizes | names | values))  # type: ignore[arg-type]
