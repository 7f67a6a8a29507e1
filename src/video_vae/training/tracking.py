"""A copy of a training's figures for Weights & Biases, where it is asked for: offline unless WANDB_MODE is set.

`VIDEO_VAE_WANDB` names the project. Without it nothing of wandb is imported, and no result depends on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_vae.errors import UserError

log = logging.getLogger(__name__)

SWITCH = "VIDEO_VAE_WANDB"
DEFAULTS = {"WANDB_MODE": "offline", "WANDB_CONSOLE": "off", "WANDB_SILENT": "true"}
"""What the library's own variables are where they are not set: no network, and the output is left alone."""


class Tracker:
    """Log a training's figures to a run of Weights & Biases; what goes wrong there does not stop the training.

    Args:
        project: name of the project.
        folder: the run's files go to `wandb/` in it.
        name: of the run, such as `demo/stage1`.
        settings: shown with the run.
    """

    def __init__(self, project: str, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._given = {"project": project, "dir": str(folder), "name": name, "config": dict(settings)}
        self._folder = folder
        self._run: Any = None
        self._failed = False

    def log(self, figures: Mapping[str, float], step: int, identity: str) -> None:
        """Log the figures of a step; a training that goes on has the identity of before, so that its run goes on."""
        if self._failed:
            return
        try:
            if self._run is None:
                self._run = self._start(identity)
            self._run.log(dict(figures), step=step)
        except Exception as error:
            self._give_up(error)

    def _start(self, identity: str) -> Any:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        wandb = importlib.import_module("wandb")  # by name: no dependency of this package
        self._folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(**self._given, id=identity, resume="allow")

    def close(self) -> None:
        """End the run."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        log.warning("Weights & Biases: %s; the training goes on without it", " ".join(str(error).split())[:200])


def asked_tracker(folder: Path, name: str, settings: Mapping[str, Any]) -> Tracker | None:
    """Return the tracker that `VIDEO_VAE_WANDB` asks for, or None.

    Raises:
        UserError: if wandb is not installed.
    """
    project = os.environ.get(SWITCH, "").strip()
    if not project:
        return None
    if importlib.util.find_spec("wandb") is None:
        raise UserError(f"{SWITCH}={project} needs the package wandb; pip install wandb, or unset {SWITCH}")
    return Tracker(project, folder, name, settings)
