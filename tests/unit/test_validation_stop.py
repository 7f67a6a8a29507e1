"""A validation is left at once when a signal asks for it, and taken when the training goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from training_material import cached, log_lines, options, train_here, weights
from video_vae.training.validation import LENGTHS, Validator


@pytest.mark.parametrize(("windows", "step"), [(1, 0), (LENGTHS + 1, 3)])
def test_a_signal_during_a_validation_is_heeded_at_once_and_the_validation_taken_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: int, step: int
) -> None:
    whole = tmp_path / "whole" / "stage1"
    train_here(options(data, whole, *cached(data)))
    score, scored = Validator._score, []

    def interrupted(self: Validator, *given: Any) -> dict[str, float]:
        scored.append(given)
        if len(scored) == windows:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, *given)

    monkeypatch.setattr(Validator, "_score", interrupted)
    arguments = options(data, tmp_path / "out", *cached(data))
    with pytest.raises(SystemExit) as ended:
        train_here(arguments)
    assert ended.value.code == 128 + signal.SIGTERM and len(scored) == windows
    (folder,) = (tmp_path / "state" / "stage1").iterdir()
    assert (folder / f"step-00000000{step}").is_dir()
    train_here(arguments)
    for name in ("model", "model_raw"):
        kept = weights(whole, name)
        assert all(torch.equal(value, kept[key]) for key, value in weights(tmp_path / "out", name).items())
    lines = [log_lines(path / "log.jsonl", "valid") for path in (tmp_path / "out", whole)]
    assert [(line["step"], line["l1"]) for line in lines[0]] == [(line["step"], line["l1"]) for line in lines[1]]
