"""Checkpoints written beside the training hold what was there, and a full disk costs one of them, not the run."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from training_material import cached, log_lines, make_data, options, settings, train_here
from video_vae.distributed.ranks import Ranks
from video_vae.training.background import CheckpointWriter
from video_vae.training.checkpoint import CheckpointStore, State


def _state(step: int, weight: torch.Tensor) -> State:
    return State(step=step, tensors={"model.w": weight}, values={"drawn": step})


def _writer(folder: Path, keep: int = 2) -> CheckpointWriter:
    return CheckpointWriter(CheckpointStore(folder, "a" * 16, keep))


def test_what_changes_after_the_call_is_not_in_the_checkpoint(tmp_path: Path) -> None:
    writer, weight = _writer(tmp_path, keep=9), torch.zeros(1 << 20)
    for step in range(1, 6):
        weight.fill_(step)
        writer.save(_state(step, weight), wait=False)
        weight.fill_(-1)
    writer.close()
    assert writer.store.steps() == [1, 2, 3, 4, 5] and writer.seconds > 0
    for step in range(1, 6):
        assert (writer.store.load(step).tensors["model.w"] == step).all()


def test_one_that_is_waited_for_is_on_the_disk(tmp_path: Path) -> None:
    writer, weight = _writer(tmp_path), torch.arange(3.0)
    writer.save(_state(1, weight.to(torch.bfloat16)), wait=False)
    assert writer.holds(1) and not writer.holds(2)
    writer.save(_state(2, weight), wait=True)  # another format: the copy in memory is made anew
    assert torch.equal(writer.store.load(2).tensors["model.w"], weight)


def _forbid(folder: Path) -> Path:
    """Put a file where the checkpoints' folder was, so that none can be written; return where the folder is."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("in the way", encoding="utf-8")
    return aside


def test_one_that_cannot_be_written_is_reported_and_the_second_in_a_row_ends_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    writer, weight = _writer(folder), torch.zeros(3)
    writer.save(_state(1, weight), wait=True)
    aside = _forbid(folder)
    writer.save(_state(2, weight), wait=False)
    with caplog.at_level(logging.WARNING):
        assert not writer.holds(2)
    assert "checkpoint of step 2 could not be written" in caplog.text and "goes on" in caplog.text
    folder.unlink()
    aside.rename(folder)
    writer.save(_state(3, weight), wait=False)  # one that works makes up for it
    assert writer.holds(3) and writer.store.steps() == [1, 3]
    _forbid(folder)
    writer.save(_state(4, weight), wait=False)
    writer.save(_state(5, weight), wait=False)
    with pytest.raises(OSError, match=r"state"):
        writer.save(_state(6, weight), wait=False)
    with pytest.raises(OSError, match=r"state"):
        writer.save(_state(7, weight), wait=True)  # the last one is not made up for
    writer.close()


def test_a_training_goes_on_after_a_checkpoint_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_data(tmp_path)
    write, failed = CheckpointStore.save, []

    def full_once(store: CheckpointStore, state: State) -> Path:
        """Fail at step 4 as a full disk does."""
        if state.step == 4:
            failed.append(state.step)
            raise OSError(28, "No space left on device", "state")
        return write(store, state)

    monkeypatch.setattr(CheckpointStore, "save", full_once)
    train_here(options(tmp_path, tmp_path / "out", *cached(tmp_path), config=settings()))
    assert failed == [4] and "checkpoint of step 4 could not be written" in caplog.text
    assert [line["step"] for line in log_lines(tmp_path / "out" / "log.jsonl", "end")] == [6]


@dataclass(frozen=True, kw_only=True)
class Threads(Ranks):
    """Ranks that are threads of this process."""

    meeting: threading.Barrier
    box: dict[int, Any] = field(repr=False)

    def gather(self, value: Any) -> list[Any]:
        self.box[self.rank] = value
        self.meeting.wait(30)
        found = [self.box[rank] for rank in range(self.world_size)]
        self.meeting.wait(30)
        return found

    def broadcast(self, value: Any) -> Any:
        return self.gather(value)[0]

    def barrier(self) -> None:
        self.meeting.wait(30)


def test_a_part_that_cannot_be_written_costs_the_checkpoint_of_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, full = CheckpointStore.save, {2, 4, 5}

    def save(store: CheckpointStore, state: State) -> Path:
        """Find the second rank's disk full at some steps."""
        if state.part is not None and state.part.rank == 1 and state.step in full:
            raise OSError(28, "No space left on device", "state")
        return write(store, state)

    monkeypatch.setattr(CheckpointStore, "save", save)
    meeting, box = threading.Barrier(2), dict[int, Any]()

    def rank(number: int) -> tuple[list[bool], str]:
        """Save five steps, as a rank of two does."""
        ranks = Threads(rank=number, world_size=2, device=torch.device("cpu"), meeting=meeting, box=box)
        writer, held = CheckpointWriter(CheckpointStore(tmp_path, "a" * 16, keep=1), ranks), []
        try:
            for step in (1, 2, 3, 4, 5):
                writer.save(State(step=step, tensors={f"w{number}": torch.ones(2)}, values={}), wait=False)
                held.append(writer.holds(step))
        except OSError as error:
            writer.close()
            return held, str(error)
        raise AssertionError("no error was raised")

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(rank, range(2)))
    assert told[0] == told[1] and told[0][0] == [True, False, True, False] and "No space left" in told[0][1]
    assert "checkpoint of step 2 could not be written" in caplog.text and "that of step 1 is kept" in caplog.text
    newest = CheckpointStore(tmp_path, "a" * 16, keep=1).newest()
    assert newest is not None and newest.step == 3 and sorted(newest.tensors) == ["w0", "w1"]
    assert not list(tmp_path.glob("step-000000001*"))
