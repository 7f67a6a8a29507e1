"""The log of a training: log.jsonl, one object per line, and its figures for TensorBoard (and Weights & Biases).

While a training runs, log.jsonl lies in its state folder. A checkpoint notes how long the log was, and a resume cuts it
back to that, so that each step is in it once, however often the training was killed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from video_vae.files import writing
from video_vae.training.tracking import Tracker

LOG = "log.jsonl"
_FIGURES = (int, float)
_PLOTTED = ("train", "valid", "discriminator")
"""Events whose figures are curves, each in a group of its own."""
_UNPLOTTED = ("step", "time", "images")


class Journal:
    """Write the log on the first rank; does nothing without a folder.

    Args:
        folder: where log.jsonl lies; None writes nothing.
        tensorboard: folder of TensorBoard's files.
        tracker: takes the figures, too.
    """

    def __init__(self, folder: Path | None, tensorboard: Path | None = None, tracker: Tracker | None = None) -> None:
        self.path = None if folder is None else folder / LOG
        self._tensorboard = tensorboard
        self._tracker = tracker
        self._stream: Any = None
        self._plots: Any = None

    def open(self, length: int = 0, step: int = 0) -> None:
        """Start at a length of the log in bytes, dropping what is behind it; `step` is the last one that is kept."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab")
        self._stream.truncate(min(length, self._stream.tell()))
        self._stream.seek(0, os.SEEK_END)
        if self._tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._plots = SummaryWriter(str(self._tensorboard), purge_step=step + 1)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Write a line at once; figures that are not finite become null."""
        if self._stream is None or self.path is None:
            return
        figures = {name: _readable(value) for name, value in values.items()}
        line = {"step": step, "time": round(time.time(), 3), "event": event, **figures}
        with writing(self.path):
            self._stream.write(json.dumps(line).encode() + b"\n")
            self._stream.flush()
        if event in _PLOTTED:
            plotted = {name: value for name, value in values.items() if isinstance(value, _FIGURES)}
            self._plot({f"{event}/{name}": value for name, value in plotted.items() if name not in _UNPLOTTED}, step)

    def _plot(self, figures: dict[str, float], step: int) -> None:
        if self._plots is not None:
            for name, value in figures.items():
                self._plots.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(figures, step, self.identity())

    def identity(self) -> str:
        """Return 16 hexadecimal digits: the same when a training goes on, others when it begins again."""
        first = json.dumps(next(self.lines(), {}))  # it has the time of the start
        place = "" if self.path is None else "/".join(self.path.parts[-3:-1])
        return hashlib.sha256(f"{place}{first}".encode()).hexdigest()[:16]

    def pictures(self, name: str, step: int, pictures: Sequence[Tensor]) -> None:
        """Show pictures in TensorBoard, each (3, H, W) in [0, 1]."""
        for number, picture in enumerate(pictures if self._plots is not None else []):
            self._plots.add_image(f"{name}/{number}", picture, step)

    def flush(self) -> int:
        """Flush the log to disk; return its length in bytes."""
        if self._stream is None or self.path is None:
            return 0
        with writing(self.path):
            os.fsync(self._stream.fileno())
        return int(self._stream.tell())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Read the log."""
        if self.path is not None and self.path.is_file():
            with self.path.open(encoding="utf-8") as stream:
                yield from map(json.loads, stream)

    def close(self) -> None:
        """Close the files."""
        for part in (self._stream, self._plots, self._tracker):
            if part is not None:
                part.close()
        self._stream = self._plots = None


def _readable(value: Any) -> Any:
    if isinstance(value, float):
        # Nine digits tell all float32 apart and keep the lines short.
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
