"""Pieces that do something to the worker which reads them. Imports nothing heavy: the worker loads this first."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video_vae.data.content import MediaError
from video_vae.errors import UserError


@dataclass(frozen=True)
class Trick:
    """A piece that is no clip; with `once`, it does what it does in the first worker only."""

    what: str
    path: str = ""
    once: bool = False

    def fetch(self) -> NDArray[Any]:
        if self.once:
            try:
                Path(self.path).mkdir()  # no file can be written
            except FileExistsError:
                return np.arange(6, dtype=np.int16).reshape(2, 3)
        if self.what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.what == "hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.what == "memory":
            np.ones(1 << 29, dtype=np.uint8)
        elif self.what == "damaged":
            raise MediaError("damaged", "frame 3")
        elif self.what == "cure":
            raise UserError("do this and that")
        elif self.what == "bug":
            raise ZeroDivisionError("odd")
        elif self.what == "write":
            Path(self.path).write_text("x", encoding="utf-8")
        return np.array([os.getpid()])
