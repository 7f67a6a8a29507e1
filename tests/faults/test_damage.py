"""Files that are cut, emptied or have a flipped bit are never taken for whole, and the work ends as it would have."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from faults.conftest import Reference
from faults.fault_material import CONFIG, STEPS, Job, Ledger, assert_same, command, damage, wait_for_step
from training_material import BASE, STAGE, cached, options, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HOW = {"cut": "a truncated", "flipped": "a bit-flipped", "empty": "an empty"}


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_costs_the_steps_after_the_one_before(
    data: Path, one_rank: Reference, tmp_path: Path, ledger: Ledger, how: str
) -> None:
    chance = ledger.random("checkpoint", how)
    arguments = command(options(data, tmp_path / "out", *cached(data), config=CONFIG))
    with ledger.trial(f"{HOW[how]} checkpoint", one_rank.seconds):
        job = Job(arguments, tmp_path / "tmp")
        wait_for_step(tmp_path, chance.randrange(5, STEPS - 3), job)
        os.kill(job.process.pid, signal.SIGKILL)
        job.end()
        newest = max(tmp_path.glob("state/*/*/step-*"))
        damage(newest / chance.choice(["state.safetensors", "state.json"]), how, chance)
        status, told = Job(arguments, tmp_path / "tmp").end()
        assert status == 0 and f"checkpoint of step {int(newest.name[5:])} is not usable" in told, told
        assert_same(tmp_path, one_rank.folder, tmp_path / "tmp")


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_latent_shard_is_refused_by_name(
    data: Path, one_rank: Reference, tmp_path: Path, ledger: Ledger, how: str
) -> None:
    shard = tmp_path / "latents.safetensors"
    encode = [settings(), "--data-path", str(data / "train.csv"), "--data-path", str(data / "test.csv")]
    encode += ["--spatial", str(data / "spatial"), "--output", str(shard)]
    arguments = command(options(data, tmp_path / "out", "--latents", str(shard), config=CONFIG))
    with ledger.trial(f"{HOW[how]} latent shard (deleted as the message says)", one_rank.seconds):
        shutil.copy(data / "latents.safetensors", shard)
        damage(shard, how, ledger.random("latents", how))
        status, told = Job(arguments, tmp_path / "tmp").end()
        assert status == 2 and f"{shard} is damaged" in told and "delete it and encode the clips again" in told, told
        assert not (tmp_path / "out" / "model").exists()
        shard.unlink()
        assert Job(command(["encode-latents", *encode], module="video_vae"), tmp_path / "tmp").end()[0] == 0
        assert shard.read_bytes() == (data / "latents.safetensors").read_bytes()
        assert Job(arguments, tmp_path / "tmp").end()[0] == 0
        for path in (shard, shard.with_suffix(".run.json")):
            path.unlink()
        assert_same(tmp_path, one_rank.folder, tmp_path / "tmp")


@pytest.mark.parametrize("how", HOW)
def test_damaged_weights_are_refused_by_name(
    data: Path, one_rank: Reference, tmp_path: Path, ledger: Ledger, how: str
) -> None:
    stage = {**STAGE, "steps": 2, "image_share": 0.0, "identity_weight": 0.0, "validate_every": 2}
    config = json.dumps({**BASE, "stages": {"stage2": stage}})
    model = tmp_path / "model"
    arguments = command(
        options(data, tmp_path / "out", *cached(data), "--init-from", str(model), config=config, stage="stage2")
    )
    with ledger.trial(f"{HOW[how]} weights file (made again as the message says)"):
        shutil.copytree(one_rank.folder / "out" / "model", model)
        weights = model / "diffusion_pytorch_model.safetensors"
        damage(weights, how, ledger.random("weights", how))
        status, told = Job(arguments, tmp_path / "tmp").end()
        assert status == 2 and f"{weights} is damaged" in told and f"delete {model}" in told, told
        assert not (tmp_path / "out" / "model").exists()
        shutil.copy(one_rank.folder / "out" / "model" / weights.name, weights)
        assert Job(arguments, tmp_path / "tmp").end()[0] == 0
        assert (tmp_path / "out" / "model").exists()
