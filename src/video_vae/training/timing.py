"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch


class Stopwatch:
    """Split time into named parts; on a GPU by events, so that nothing waits for it before `read`."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = [("", self._now())]

    def mark(self, part: str) -> None:
        """Count the time since the last mark as this part's."""
        self._marks.append((part, self._now()))

    def read(self) -> dict[str, float]:
        """Return the seconds of each part since the last reading, and start again from now."""
        if self._cuda:
            torch.cuda.synchronize()
        seconds: dict[str, float] = defaultdict(float)
        for (_, before), (part, after) in zip(self._marks, self._marks[1:], strict=False):
            seconds[part] += before.elapsed_time(after) / 1000 if self._cuda else after - before
        self._marks = [("", self._now())]
        return dict(seconds)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
