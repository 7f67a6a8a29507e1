"""A full disk and a folder that cannot be written: one line that names the file, nothing half written, then on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.conftest import Reference
from faults.fault_material import CONFIG, Job, Ledger, assert_same, command, leftovers
from material import make_video_vae
from training_material import cached, options, settings
from video_vae.cli import DISK_STATUS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FULL = "No space left on device; free some space, then the same command goes on"


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes free on a disk."""
    with (disk / "filling").open("wb") as stream:
        stream.write(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - left)))


def enlarge(disk: Path) -> None:
    (disk / "filling").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


def full_then_free(line: list[str], disk: Path, tmp_path: Path, wrote: Callable[[], bool]) -> None:
    """Run a command on a full disk, then with room."""
    status, told = Job(line, tmp_path / "tmp").end()
    assert status == DISK_STATUS and FULL in told and "Traceback" not in told, told
    assert not wrote() and not leftovers(disk)
    enlarge(disk)
    status, told = Job(line, tmp_path / "tmp").end()
    assert status == 0 and wrote(), told
    assert not leftovers(disk)


def test_while_a_checkpoint_is_written(
    data: Path, one_rank: Reference, small_disk: Path, tmp_path: Path, ledger: Ledger
) -> None:
    fill(small_disk, ledger.random("checkpoint").randrange(20_000, 150_000))
    arguments = options(data, tmp_path / "run" / "out", *cached(data), config=CONFIG)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state").symlink_to(small_disk)
    with ledger.trial("a full disk while writing a checkpoint", one_rank.seconds):
        full_then_free(command(arguments), small_disk, tmp_path, lambda: (tmp_path / "run" / "out" / "model").exists())
        assert_same(tmp_path / "run", one_rank.folder, tmp_path / "tmp")


def test_while_a_latent_shard_is_written(data: Path, small_disk: Path, tmp_path: Path, ledger: Ledger) -> None:
    fill(small_disk, ledger.random("latents").randrange(4_000, 40_000))
    shard = small_disk / "latents.safetensors"
    tables = ["--data-path", str(data / "train.csv"), "--data-path", str(data / "test.csv")]
    line = ["encode-latents", settings(), *tables, "--spatial", str(data / "spatial"), "--output", str(shard)]
    with ledger.trial("a full disk while writing a latent shard"):
        parts = small_disk / ".latents.parts"
        status, told = Job(command(line, module="video_vae"), tmp_path / "tmp").end()
        assert status == DISK_STATUS and FULL in told, told
        assert not shard.exists() and not leftovers(parts)
        enlarge(small_disk)
        assert Job(command(line, module="video_vae"), tmp_path / "tmp").end()[0] == 0
        assert shard.read_bytes() == (data / "latents.safetensors").read_bytes() and not leftovers(small_disk)


@pytest.fixture
def reconstructed(data: Path, small_disk: Path, tmp_path: Path) -> list[str]:
    make_video_vae(tmp_path / "vae")
    config = settings()
    where = ["--ckpt-path", str(tmp_path / "vae" / "model"), "--data-path", str(data / "test.csv")]
    return [config, *where, "--device", "cpu"]


def test_while_a_reconstruction_is_written(
    reconstructed: list[str], small_disk: Path, tmp_path: Path, ledger: Ledger
) -> None:
    fill(small_disk, ledger.random("reconstruction").randrange(20_000, 60_000))
    line = command([*reconstructed, "--save-dir", str(small_disk / "clips")], module="video_vae.reconstruct")
    with ledger.trial("a full disk while writing a reconstruction"):
        full_then_free(line, small_disk, tmp_path, lambda: (small_disk / "clips" / "index.csv").exists())
        whole = command([*reconstructed, "--save-dir", str(tmp_path / "whole")], module="video_vae.reconstruct")
        assert Job(whole, tmp_path / "tmp").end()[0] == 0
        for variant in ("ori", "rec", "spatial", "preview"):
            for clip in (tmp_path / f"whole_{variant}").iterdir():
                made = small_disk / f"clips_{variant}" / clip.name
                assert made.read_bytes() == clip.read_bytes(), clip


def test_while_metrics_are_written(reconstructed: list[str], small_disk: Path, tmp_path: Path, ledger: Ledger) -> None:
    made = command([*reconstructed, "--save-dir", str(tmp_path / "clips")], module="video_vae.reconstruct")
    assert Job(made, tmp_path / "tmp").end()[0] == 0
    folders = ["--real_video_dir", str(tmp_path / "clips_ori"), "--generated_video_dir", str(tmp_path / "clips_rec")]
    options_ = ["--metric", "psnr", "ssim", "--output_dir"]
    fill(small_disk, ledger.random("metrics").randrange(0, 8_000))
    with ledger.trial("a full disk while writing the metrics"):
        line = command([*folders, *options_, str(small_disk / "metrics")], module="video_vae.evaluate")
        full_then_free(line, small_disk, tmp_path, lambda: (small_disk / "metrics" / "summary.json").exists())
        assert (
            Job(
                command([*folders, *options_, str(tmp_path / "whole")], module="video_vae.evaluate"), tmp_path / "tmp"
            ).end()[0]
            == 0
        )
        for name in ("frames.parquet", "clips.csv", "summary.json"):
            assert (small_disk / "metrics" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_results_folder_that_is_read_only(
    data: Path, one_rank: Reference, small_disk: Path, tmp_path: Path, ledger: Ledger
) -> None:
    run = small_disk / "run"
    subprocess.run(["mount", "-o", "remount,size=64m,ro", str(small_disk)], check=True)
    line = command(options(data, run / "out", *cached(data), config=CONFIG))
    with ledger.trial("a read-only results folder", one_rank.seconds):
        status, told = Job(line, tmp_path / "tmp").end()
        assert status == DISK_STATUS, told
        assert (
            "Read-only file system; make it writable, then the same command goes on" in told and "Traceback" not in told
        )
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        assert Job(line, tmp_path / "tmp").end()[0] == 0
        assert_same(run, one_rank.folder, tmp_path / "tmp")
