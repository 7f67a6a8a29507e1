"""How long a training waits for a checkpoint: written by the loop itself, and beside it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import Options, markdown, spread
from video_vae.training.background import CheckpointWriter
from video_vae.training.checkpoint import CheckpointStore, State

BYTES = 4_000_000_000
TENSORS = 40


def run(options: Options) -> str:
    """Save a state of 4 GB in both ways in turn; seconds that the caller waits, and until the file is whole."""
    count = BYTES // (1000 if options.quick else 1) // (4 * TENSORS)
    tensors = {f"t{index}": torch.randn(count) for index in range(TENSORS)}
    waited: dict[str, list[float]] = {"written by the loop": [], "written beside it": []}
    whole: dict[str, list[float]] = {name: [] for name in waited}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = CheckpointStore(Path(folder), "a" * 16, keep=1)
        writer = CheckpointWriter(store)
        for step in range(1, 2 * options.rounds + 2):
            state = State(step=step, tensors=tensors, values={})
            began = time.perf_counter()
            if step % 2:
                writer.save(state, wait=False)
            else:
                store.save(state)
            seconds = time.perf_counter() - began
            writer.holds(step)  # waits for the file
            if step > 1:  # the first one takes the memory for the copy
                name = list(waited)[step % 2]
                waited[name].append(seconds)
                whole[name].append(time.perf_counter() - began)
        writer.close()
    rows = [[name, _said(waited[name]), _said(whole[name])] for name in waited]
    title = f"A checkpoint of {4 * count * TENSORS / 1e9:.1f} GB"
    return markdown(title, ["", "the training waits, s", "until the file is whole, s"], rows)


def _said(values: list[float]) -> str:
    middle, low, high = spread(values)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
