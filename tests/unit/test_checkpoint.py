"""Checkpoints are whole or absent, verified, pruned, and never another training's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from video_vae.errors import UserError
from video_vae.training.checkpoint import (
    NOTE,
    TENSORS,
    BrokenCheckpointError,
    CheckpointStore,
    Part,
    State,
    optimizer_state,
    optimizer_tensors,
)
from video_vae.training.muon import Muon


def state(step: int) -> State:
    return State(step=step, tensors={"model.w": torch.full((4, 3), float(step))}, values={"drawn": 8 * step})


def store(folder: Path, fingerprint: str = "a" * 16, keep: int = 2) -> CheckpointStore:
    return CheckpointStore(folder, fingerprint, keep)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    store(tmp_path).save(state(7))
    read = store(tmp_path).newest()
    assert read is not None and (read.step, read.values) == (7, {"drawn": 56})
    assert torch.equal(read.tensors["model.w"], state(7).tensors["model.w"])
    assert store(tmp_path / "empty").newest() is None


def test_the_newest_few_are_kept_and_nothing_half_written(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for step in (1, 2, 3, 4):
        kept.save(state(step))
    assert kept.steps() == [3, 4]
    (tmp_path / ".step-000000005.part").mkdir()  # what a process leaves that is killed while it saves
    with kept.locked():
        assert not list(tmp_path.glob(".step*"))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "note", "no note"])
def test_a_broken_newest_one_is_reported_and_the_one_before_is_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(tmp_path)
    kept.save(state(3))
    tensors, note = (kept.save(state(4)) / name for name in (TENSORS, NOTE))
    content = bytearray(tensors.read_bytes())
    if damage == "flip":
        content[-2] ^= 1
        tensors.write_bytes(content)
    elif damage == "truncate":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        tensors.unlink()
    elif damage == "note":
        changed = json.loads(note.read_text())
        changed["note"]["step"] = 5
        note.write_text(json.dumps(changed))
    else:
        note.unlink()
    with caplog.at_level(logging.WARNING):
        read = kept.newest()
    assert read is not None and read.step == 3
    assert "step 4 is not usable" in caplog.text


def test_after_a_fallback_the_broken_one_does_not_count_among_the_kept(tmp_path: Path) -> None:
    kept = store(tmp_path, keep=1)
    kept.save(state(10))
    (kept.path(20)).mkdir()
    kept.save(state(15))
    assert kept.steps() == [15]


def save_parts(kept: CheckpointStore, step: int, writing: str, ranks: range = range(3)) -> None:
    for rank in ranks:
        tensors = {f"optimizer.{rank}.exp_avg": torch.full((2,), float(step))}
        kept.save(State(step=step, tensors=tensors, values={}, part=Part(rank=rank, ranks=3, writing=writing)))


def test_parts_of_ranks_are_one_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = store(tmp_path)
    for step in (1, 2, 3):
        save_parts(kept, step, "first")
    assert kept.steps() == [1, 2, 3]  # dropped when all are known to be written
    kept.prune(3)
    assert len(list(tmp_path.glob("step-*"))) == 6
    read = kept.newest()
    assert read is not None and read.step == 3
    assert sorted(read.tensors) == [f"optimizer.{rank}.exp_avg" for rank in range(3)]
    save_parts(kept, 4, "first", range(2))
    read = kept.newest()
    assert read is not None and read.step == 3
    assert "step 4 is not usable" in caplog.text and "rank-0002" in caplog.text
    save_parts(kept, 3, "second", range(2))
    with pytest.raises(BrokenCheckpointError, match=r"rank-0002 is left from an earlier writing"):
        kept.load(3)
    kept.save(state(3))  # by one rank alone
    read = kept.newest()
    assert read is not None and list(read.tensors) == ["model.w"]
    assert kept.steps() == [2, 3] and not list(tmp_path.glob("step-000000004*"))
    kept.remove()
    assert not tmp_path.exists()


def test_another_trainings_state_is_refused(tmp_path: Path) -> None:
    store(tmp_path).save(state(3))
    other = store(tmp_path, fingerprint="b" * 16)
    with pytest.raises(BrokenCheckpointError, match="another training"):
        other.load(3)
    assert other.newest() is None


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    with store(tmp_path).locked(), pytest.raises(UserError, match="another process"), store(tmp_path).locked(0.3):
        pass
    with store(tmp_path).locked():
        pass


@pytest.mark.parametrize("kind", [partial(torch.optim.AdamW, fused=True), Muon])
def test_an_optimizer_goes_on_bit_for_bit(kind: Callable[..., torch.optim.Optimizer]) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = torch.nn.Linear(9, 8)
        return net, kind(net.parameters(), lr=0.1)

    def take(net: torch.nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            net(torch.full((1, 9), float(step))).square().sum().backward()
            optimizer.step()

    net, optimizer = make()
    take(net, optimizer, range(3))
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    live = optimizer_tensors(optimizer.state_dict(), ["weight", "bias"])
    saved = {name: value.clone() for name, value in live.items()}
    take(net, optimizer, range(3, 5))
    again, fresh = make()
    again.load_state_dict(weights)
    fresh.load_state_dict(optimizer_state(saved, ["weight", "bias"], fresh.state_dict()["param_groups"]))
    take(again, fresh, range(3, 5))
    assert torch.equal(again.weight, net.weight) and torch.equal(again.bias, net.bias)
