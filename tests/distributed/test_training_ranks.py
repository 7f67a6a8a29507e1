"""Several ranks train like one, and a training that is killed goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from training_material import (
    cached,
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

# Processes start slowly where the machine is busy.
pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
LONG: dict[str, Any] = {"steps": 30, "checkpoint_every": 3, "validate_every": 10}
RANKED: dict[str, Any] = {"steps": 8, "checkpoint_every": 2, "validate_every": 4, "micro_batch": 1}


@pytest.fixture(scope="module")
def two_ranks(data: Path) -> Path:
    output = data / "two" / "out"
    done = train_apart(options(data, output, *cached(data), config=settings(**RANKED)), ranks=2)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_sigkill_and_sigterm_cost_time_and_nothing_else(data: Path, tmp_path: Path) -> None:
    arguments = options(data, tmp_path / "out", *cached(data), config=settings(**LONG))
    for step, number, status in ((4, signal.SIGKILL, -9), (14, signal.SIGTERM, 143)):
        process = subprocess.Popen(command(arguments), env=environment(), stderr=subprocess.PIPE, text=True)
        wait_for_step(tmp_path / "state", step)
        process.send_signal(number)
        told = process.communicate(timeout=300)[1]
        assert process.returncode == status, told
        assert ("the same command goes on" in told) == (number != signal.SIGKILL)
        assert not (tmp_path / "out" / "model").exists()
    done = train_apart(arguments)
    assert done.returncode == 0, done.stderr
    train_here(options(data, tmp_path / "whole" / "out", *cached(data), config=settings(**LONG)))
    assert same_models(tmp_path / "out", tmp_path / "whole" / "out")
    lines = [log_lines(folder / "out" / "log.jsonl", "train") for folder in (tmp_path, tmp_path / "whole")]
    assert [line["step"] for line in lines[0]] == list(range(1, 31))
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert len(log_lines(tmp_path / "out" / "log.jsonl", "resume")) == 2


def test_two_ranks_train_what_one_rank_trains(data: Path, two_ranks: Path, tmp_path: Path) -> None:
    train_here(options(data, tmp_path / "out", *cached(data), config=settings(**RANKED)))
    for key, value in weights(tmp_path / "out", "model_raw").items():
        torch.testing.assert_close(weights(two_ranks, "model_raw")[key], value, rtol=0, atol=1e-4)
    for event, names in (("train", ("loss", "kl", "l1", "grad_norm")), ("valid", ("l1", "psnr_latent", "identity"))):
        one, two = (log_lines(folder / "log.jsonl", event) for folder in (tmp_path / "out", two_ranks))
        assert [line["step"] for line in one] == [line["step"] for line in two]
        for name in names:
            assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-3)


def test_two_ranks_take_the_same_sizes_as_one(data: Path, tmp_path: Path) -> None:
    changes = json.loads(settings(**RANKED, workers=1))
    changes["data"]["buckets"] = [{"resolution": [32, 32]}, {"resolution": [24, 40]}]
    arguments = {count: options(data, tmp_path / f"{count}", config=json.dumps(changes)) for count in (1, 2)}
    for count, given in arguments.items():
        done = train_apart([*given, "--state", str(tmp_path / f"state{count}")], ranks=count)
        assert done.returncode == 0, done.stderr
    one, two = (log_lines(tmp_path / f"{count}" / "log.jsonl", "train") for count in (1, 2))
    assert [line["size"] for line in one] == [line["size"] for line in two]
    assert {line["size"] for line in one} == {"32x32", "24x40"}
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-3)


def test_ranks_stop_together_and_go_on_bit_for_bit_with_a_shared_optimizer(
    data: Path, two_ranks: Path, tmp_path: Path
) -> None:
    arguments = options(data, tmp_path / "out", *cached(data), config=settings(**RANKED, shard_optimizer=True))
    line = command(arguments, ranks=2)
    process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_step(tmp_path / "state", 3)
    # As a scheduler does it: the launcher and all ranks get the signal.
    os.killpg(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=300)[1]
    assert process.returncode != 0 and not (tmp_path / "out" / "model").exists()
    newest = max(path for path in tmp_path.glob("state/*/*/step-*") if not path.suffix)
    first, second = (set(load_file(Path(f"{newest}{rank}", "state.safetensors"))) for rank in ("", ".rank-0001"))
    assert not first & second and all(name.startswith("optimizer.") for name in second)
    assert any(name.endswith("exp_avg") for name in first) and any(name.endswith("exp_avg") for name in second)
    done = train_apart(arguments, ranks=2)
    assert done.returncode == 0, done.stderr + told
    assert same_models(tmp_path / "out", two_ranks)
    log = log_lines(tmp_path / "out" / "log.jsonl")
    assert [line["step"] for line in log if line["event"] == "train"] == list(range(1, 9))
    assert [line["event"] for line in log].count("resume") == 1
