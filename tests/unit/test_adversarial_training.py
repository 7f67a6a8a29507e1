"""A stage that trains against a discriminator: what it logs and keeps, and that it goes on where it was cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from training_material import log_lines, options, settings, train_here, weights
from video_vae.errors import TIME_UP_STATUS, UserError
from video_vae.models.discriminator import PatchDiscriminator
from video_vae.training.adversarial import FIGURES, Adversary

SMALL: dict[str, Any] = {"channels": 4, "layers": 2, "learning_rate": 1e-3}
PIXELS: dict[str, Any] = {"objective": "pixels", "train_spatial": True, "identity_weight": 0.0, "frames": [1, 9]}
STEPS = 5


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def judged(discriminator: dict[str, Any] | None = SMALL, **changes: Any) -> str:
    given = {"steps": STEPS, "checkpoint_every": 2, "validate_every": STEPS, "global_batch": 2, "micro_batch": 1}
    asked = {} if discriminator is None else {"discriminator": discriminator}
    return settings("stage3", **PIXELS, **{**given, **asked, **changes})


def train(data: Path, output: Path, config: str, *extra: str) -> None:
    train_here(options(data, output, *extra, config=config, stage="stage3"))


def kept(output: Path, step: int = STEPS) -> dict[str, Tensor]:
    (folder,) = (output.parent / "state" / "stage3").iterdir()
    return load_file(folder / f"step-{step:09d}" / "state.safetensors")


def figures(output: Path, event: str) -> list[dict[str, Any]]:
    clocks = ("time", "seconds", "frames_per_s", "data_share", "memory_gb")
    lines = log_lines(output / "log.jsonl", event)
    return [{k: v for k, v in line.items() if k not in clocks and not k.endswith("_s")} for line in lines]


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    output = data / "judged" / "stage3"
    train(data, output, judged())
    return output


@pytest.fixture(scope="module")
def alone(data: Path) -> Path:
    output = data / "alone" / "stage3"
    train(data, output, judged(None))
    return output


def test_its_figures_have_lines_of_their_own_and_the_net_is_kept_beside_the_state(finished: Path) -> None:
    lines = log_lines(finished / "log.jsonl", "discriminator")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line, train_line in zip(lines, log_lines(finished / "log.jsonl", "train"), strict=True):
        assert set(line) == {"step", "time", "event", *FIGURES, "grad_norm", "lr"}
        assert not set(FIGURES) & set(train_line) and line["lr"] == 1e-3
        expected = train_line["reconstruction"] + 1e-6 * train_line["kl"]
        assert train_line["loss"] == pytest.approx(expected, rel=1e-5)
        assert line["adaptive_weight"] > 0 and line["grad_norm"] > 0
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert {f"discriminator/{name}" for name in FIGURES} < set(events.Tags()["scalars"])
    names = {name.removeprefix("discriminator.") for name in kept(finished) if name.startswith("discriminator.")}
    net = [name for name, _ in PatchDiscriminator(4, 2).named_parameters()]
    assert names == {
        *(f"model.{name}" for name in net),
        *(f"optimizer.{name}.{part}" for name in net for part in ("step", "exp_avg", "exp_avg_sq")),
    }
    record = json.loads((finished / "run.json").read_text())
    assert record["discriminator_parameters"] == sum(value.numel() for value in PatchDiscriminator(4, 2).parameters())
    assert not [name for name in weights(finished) if "discriminator" in name]


@pytest.mark.parametrize("start", [0, 2])
def test_a_training_cut_off_after_every_step_ends_in_the_same_bits(
    data: Path, finished: Path, tmp_path: Path, start: int
) -> None:
    config, whole = judged({**SMALL, "start_step": start}), finished
    if start:
        whole = tmp_path / "whole" / "stage3"
        train(data, whole, config)
    for _ in range(STEPS - 1):
        with pytest.raises(SystemExit) as ended:
            train(data, tmp_path / "out", config, "--max-hours", "0")
        assert ended.value.code == TIME_UP_STATUS
    train(data, tmp_path / "out", config)
    for name in ("model", "model_raw"):
        assert same(weights(tmp_path / "out", name), weights(whole, name))
    assert same(kept(tmp_path / "out"), kept(whole))
    for event in ("train", "discriminator", "valid"):
        assert figures(tmp_path / "out", event) == figures(whole, event)


def test_before_it_joins_a_stage_is_the_one_without_it(data: Path, alone: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "out", judged({**SMALL, "start_step": 2}))
    assert [line["step"] for line in log_lines(tmp_path / "out" / "log.jsonl", "discriminator")] == [3, 4, 5]
    with_it, without = (figures(output, "train") for output in (tmp_path / "out", alone))
    assert with_it[:2] == without[:2]
    assert with_it[2]["loss"] == without[2]["loss"] and with_it[2]["grad_norm"] != without[2]["grad_norm"]
    assert with_it[3]["loss"] != without[3]["loss"]


def test_a_stage_without_one_builds_and_keeps_nothing_of_it(
    data: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a discriminator is built")

    monkeypatch.setattr(Adversary, "__init__", refuse)
    monkeypatch.setattr(PatchDiscriminator, "__init__", refuse)
    config = json.loads(judged(None))
    config["stages"]["stage3"]["discriminator"] = None
    train(data, tmp_path / "out", json.dumps(config))
    assert same(weights(tmp_path / "out"), weights(alone))
    folders = [next((output.parent / "state" / "stage3").iterdir()).name for output in (tmp_path / "out", alone)]
    assert folders[0] == folders[1]
    assert not [name for name in kept(alone) if "discriminator" in name]
    assert not log_lines(alone / "log.jsonl", "discriminator")
    assert "discriminator_parameters" not in json.loads((alone / "run.json").read_text())


def test_a_gradient_of_it_that_is_not_finite_stops_or_skips_the_step_of_both(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, seen = Adversary.learn, [0]

    def spoilt(self: Adversary, share: float) -> dict[str, Tensor]:
        found = learn(self, share)
        seen[0] += 1
        if seen[0] == 5:  # the first half of the third step
            next(self.net.parameters()).grad[0] = torch.nan  # type: ignore[index]
        return found

    monkeypatch.setattr(Adversary, "learn", spoilt)
    with pytest.raises(UserError, match=r"stage3, step 3: the discriminator's gradient is not finite on clips"):
        train(data, tmp_path / "out", judged())
    before = kept(tmp_path / "out", 2)
    seen[0] = 4
    train(data, tmp_path / "out", judged(non_finite="skip", steps=STEPS, checkpoint_every=1, keep_checkpoints=9))
    after = kept(tmp_path / "out", 3)
    assert same(before, after) and not same(after, kept(tmp_path / "out", 4))
    (line,) = log_lines(tmp_path / "out" / "log.jsonl", "skipped")
    assert (line["step"], line["what"]) == (3, "discriminator's gradient")
    assert all(value.isfinite().all() for value in kept(tmp_path / "out").values())


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [({"micro_batch": 2}, 1e-3), ({"gradient_checkpointing": True}, 1e-4), ({"precision": "bf16"}, 0.25)],
)
def test_batching_recomputation_and_bf16_train_close_to_it(
    data: Path, finished: Path, tmp_path: Path, changes: dict[str, Any], tolerance: float
) -> None:
    # The gradients of random nets are nearly noise, of which bf16 keeps eight bits.
    train(data, tmp_path / "out", judged(steps=2, **changes))
    for found, wanted in zip(
        figures(tmp_path / "out", "discriminator"), figures(finished, "discriminator"), strict=False
    ):
        for name in ("d_loss", "g_loss", "adaptive_weight"):
            assert found[name] == pytest.approx(wanted[name], rel=tolerance, abs=tolerance / 10)


def test_other_settings_of_it_are_another_training(data: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to(finished.parent / "state")
    before = len(list((tmp_path / "state" / "stage3").iterdir()))
    train(data, tmp_path / "out", judged({**SMALL, "loss": "non_saturating"}))
    assert len(list((tmp_path / "state" / "stage3").iterdir())) == before + 1
    assert not same(weights(tmp_path / "out"), weights(finished))
