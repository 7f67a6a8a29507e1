"""Two ranks train against a discriminator as one does, also where they share out the optimizer and are cut off."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from training_material import (
    command,
    environment,
    log_lines,
    options,
    same_models,
    settings,
    train_apart,
    train_here,
    wait_for_step,
    weights,
)
from video_vae.errors import TIME_UP_STATUS
from video_vae.training.adversarial import FIGURES

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
STAGE: dict[str, Any] = {
    "objective": "pixels",
    "train_spatial": True,
    "identity_weight": 0.0,
    "steps": 4,
    "global_batch": 2,
    "micro_batch": 1,
    "validate_every": 4,
    "discriminator": {"channels": 4, "layers": 2, "learning_rate": 1e-4, "start_step": 1},
}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def two_ranks(data: Path) -> Path:
    output = data / "two" / "out"
    done = train_apart(options(data, output, config=settings("stage3", **STAGE), stage="stage3"), ranks=2)
    assert done.returncode == 0, done.stderr
    return output


def discriminator(output: Path, step: int = 4) -> dict[str, Tensor]:
    (folder,) = (output.parent / "state" / "stage3").iterdir()
    state = load_file(folder / f"step-{step:09d}" / "state.safetensors")
    return {name: value for name, value in state.items() if name.startswith("discriminator.")}


def test_two_ranks_train_what_one_rank_accumulates(data: Path, two_ranks: Path, tmp_path: Path) -> None:
    train_here(options(data, tmp_path / "out", config=settings("stage3", **STAGE), stage="stage3"))
    for found, wanted in (
        (weights(two_ranks, "model_raw"), weights(tmp_path / "out", "model_raw")),
        (discriminator(two_ranks), discriminator(tmp_path / "out")),
    ):
        assert found.keys() == wanted.keys() and len(wanted) > 10
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)
    one, two = (log_lines(output / "log.jsonl", "discriminator") for output in (tmp_path / "out", two_ranks))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [2, 3, 4]
    for name in (*FIGURES, "grad_norm"):
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-3, abs=1e-5)


def test_sigkill_and_sigterm_change_nothing_of_both_nets(data: Path, tmp_path: Path) -> None:
    changes = STAGE | {"steps": 24, "checkpoint_every": 3, "validate_every": 24}
    config = settings("stage3", **changes)
    arguments = options(data, tmp_path / "out", config=config, stage="stage3")
    for step, number, status in ((4, signal.SIGKILL, -9), (13, signal.SIGTERM, 143)):
        process = subprocess.Popen(command(arguments), env=environment(), stderr=subprocess.PIPE, text=True)
        wait_for_step(tmp_path / "state", step)
        process.send_signal(number)
        told = process.communicate(timeout=300)[1]
        assert process.returncode == status, told
    done = train_apart(arguments)
    assert done.returncode == 0, done.stderr
    train_here(options(data, tmp_path / "whole" / "out", config=config, stage="stage3"))
    outputs = tmp_path / "out", tmp_path / "whole" / "out"
    assert same_models(*outputs)
    first, second = (discriminator(output, 24) for output in outputs)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    lines = [log_lines(output / "log.jsonl", "discriminator") for output in outputs]
    assert [line["step"] for line in lines[0]] == list(range(2, 25))
    figures = [[[line[name] for name in FIGURES] for line in part] for part in lines]
    assert figures[0] == figures[1]


def test_ranks_go_on_bit_for_bit_with_a_shared_optimizer(data: Path, two_ranks: Path, tmp_path: Path) -> None:
    config = json.loads(settings("stage3", **STAGE))
    config["stages"]["stage3"]["shard_optimizer"] = True
    arguments = options(data, tmp_path / "out", config=json.dumps(config), stage="stage3")
    for _ in range(2):
        stopped = train_apart([*arguments, "--max-hours", "0"], ranks=2)
        assert f"exitcode  : {TIME_UP_STATUS}" in stopped.stderr, stopped.stderr
    done = train_apart(arguments, ranks=2)
    assert done.returncode == 0, done.stderr
    pairs = [(weights(tmp_path / "out", name), weights(two_ranks, name)) for name in ("model", "model_raw")]
    for first, second in [*pairs, (discriminator(tmp_path / "out"), discriminator(two_ranks))]:
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert len(log_lines(tmp_path / "out" / "log.jsonl", "resume")) == 2
