"""Profile some steps of a training: which operations take the time, on the processor and the GPU."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from video_vae.files import atomic_path

log = logging.getLogger(__name__)
FIRST_STEPS = 3
"""Steps that are left out: they compile, measure and fill caches."""


class Profiler:
    """Write a trace of some steps, after the first few of a start.

    Args:
        steps: how many; 0 profiles nothing.
        folder: where the trace is written.
    """

    def __init__(self, steps: int, folder: Path) -> None:
        self._from, self._to = FIRST_STEPS, FIRST_STEPS + steps
        self._folder = folder
        self._taken = 0 if steps else self._to
        self._profile: profile | None = None

    def stepped(self, step: int) -> None:
        """Count a step that was taken; begin after the first few, and write the trace after the last one."""
        if self._taken == self._to:
            return
        self._taken += 1
        if self._taken == self._from:
            cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profile(activities=[ProfilerActivity.CPU, *cuda], acc_events=True)
            self._profile.start()
        elif self._taken == self._to:
            self.close(step)

    def close(self, step: int) -> None:
        """End, and write what there is of the steps up to this one."""
        if self._profile is None:
            return
        self._profile.stop()
        path = self._folder / f"profile-{step:09d}.json"
        with atomic_path(path, known=True) as aside:
            self._profile.export_chrome_trace(str(aside))
        log.info("profile up to step %d: %s; open it at ui.perfetto.dev or in chrome://tracing", step, path)
        self._profile, self._taken = None, self._to
