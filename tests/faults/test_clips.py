"""A clip that is deleted, replaced or changed while a training reads it stops it until the clip is back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from faults.conftest import Reference
from faults.fault_material import STEPS, Job, Ledger, assert_same, command, wait_for_step
from training_material import hash_sources, make_data, options, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Every step draws videos, so that the one at fault is soon drawn.
CONFIG = settings(steps=STEPS, checkpoint_every=2, validate_every=STEPS, image_share=0.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("clips")
    make_data(folder)
    hash_sources(folder)
    began = time.monotonic()
    status, told = Job(command(options(folder, folder / "ref" / "out", config=CONFIG)), folder / "tmp").end()
    assert status == 0, told
    return Reference(folder, time.monotonic() - began)


@pytest.mark.parametrize("fault", ["deleted", "replaced", "changed"])
def test_the_training_stops_and_goes_on_once_the_clip_is_back(
    clips: Reference, tmp_path: Path, ledger: Ledger, fault: str
) -> None:
    chance = ledger.random("clip", fault)
    clip = clips.folder / chance.choice(["a.mkv", "bb.mkv", "ccc.mkv"])
    whole = clip.read_bytes()
    arguments = command(options(clips.folder, tmp_path / "out", config=CONFIG))
    with ledger.trial(f"a clip {fault} during training", clips.seconds):
        job = Job(arguments, tmp_path / "tmp")
        wait_for_step(tmp_path, chance.randrange(1, STEPS // 2), job)
        try:
            if fault == "deleted":
                clip.unlink()
            elif fault == "replaced":
                shutil.copy(clips.folder / "held1.mkv", tmp_path / "other")
                (tmp_path / "other").replace(clip)
            else:
                clip.write_bytes(whole[:-200] + bytes(200))
            status, told = job.end()
            assert status == 2 and f"{clip}: {'missing' if fault == 'deleted' else 'changed'}" in told, told
            assert not (tmp_path / "out" / "model").exists()
        finally:
            clip.write_bytes(whole)
        assert Job(arguments, tmp_path / "tmp").end()[0] == 0
        (tmp_path / "other").unlink(missing_ok=True)
        assert_same(tmp_path, clips.folder / "ref", tmp_path / "tmp")
