"""Workers that read: the same bytes as without, and one clip lost at most, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reader_tricks import Trick
from training_material import make_data, settings
from video_vae.config import load_config
from video_vae.data.content import MediaError
from video_vae.data.open_table import read_table
from video_vae.data.readers import Fault, Readers
from video_vae.data.sampling import Sampling
from video_vae.distributed.cores import CORES, cores_of_rank
from video_vae.errors import UserError
from video_vae.latents.cache import LatentCache
from video_vae.training.datasets import Ahead, Batch, LatentSource, PixelSource, Source
from video_vae.training.plan import StagePlan
from video_vae.training.workers import automatic

TESTS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
"""Folders where the workers find the pieces of these tests."""
SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def _found() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*TESTS, os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    made = Readers(1, seconds=SECONDS, memory=1 << 28)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("what", "said"),
    {"crash": r"crashed \(SIGSEGV\)", "hang": "no answer .* within 3 s", "memory": "takes more than 0.25 GiB"}.items(),
)
def test_a_piece_that_costs_its_worker_is_tried_in_another_one_and_then_given_up(
    readers: Readers, tmp_path: Path, what: str, said: str
) -> None:
    read = readers.fetch(Trick(what, str(tmp_path / "tried"), once=True))
    assert read.dtype == np.int16 and read.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(MediaError, match=rf"unreadable: .*{said}.*, 2 times"):
        readers.fetch(Trick(what))
    assert readers.fetch(Trick("nothing"))[0] != os.getpid()


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("damaged", MediaError, "damaged: frame 3"),
        ("cure", UserError, "do this and that"),
        ("bug", MediaError, "unreadable: ZeroDivisionError: odd"),
        ("write", MediaError, "File too large"),
    ],
)
def test_what_is_wrong_with_a_piece_is_told_and_costs_no_worker(
    readers: Readers, tmp_path: Path, what: str, error: type[Exception], said: str
) -> None:
    (before,) = readers.fetch(Trick("nothing"))
    with pytest.raises(error, match=said):
        readers.fetch(Trick(what, str(tmp_path / "written")))
    assert readers.fetch(Trick("nothing")) == [before]


def test_a_worker_that_is_killed_or_stopped_while_idle_is_replaced(readers: Readers) -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        (before,) = readers.fetch(Trick("nothing"))
        os.kill(before, number)
        assert readers.fetch(Trick("nothing")) != [before]


def test_signals_to_the_whole_job_do_not_end_a_worker(readers: Readers) -> None:
    (worker,) = readers.fetch(Trick("nothing"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(worker, number)
    assert readers.fetch(Trick("nothing")) == [worker]


def test_workers_end_when_they_are_closed_even_in_the_middle_of_a_piece() -> None:
    made = Readers(1, seconds=60)
    (worker,) = made.fetch(Trick("nothing"))
    told: list[BaseException] = []

    def hang() -> None:
        try:
            made.fetch(Trick("hang"))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    until = time.monotonic() + 30
    while _state(worker) != "T" and time.monotonic() < until:
        time.sleep(0.01)
    made.close()
    thread.join(timeout=30)
    assert isinstance(told[0], Fault) and _state(worker) is None


def test_workers_end_with_their_parent_even_when_they_are_stopped() -> None:
    script = "from reader_tricks import Trick; from video_vae.data.readers import Readers; made = Readers(1)\n"
    script += "print(made.fetch(Trick('nothing'))[0], flush=True); made.fetch(Trick('hang'))"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    until = time.monotonic() + 30
    while _state(worker) != "T" and time.monotonic() < until:
        time.sleep(0.01)
    parent.kill()
    parent.communicate()
    while _state(worker) is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert _state(worker) is None


def _state(process: int) -> str | None:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def test_where_no_worker_starts_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match=r"no worker .* starts \(.*status 1\)\); with the stage's workers: 0 none"):
        Readers(1).fetch(Trick("nothing"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


def _batches(data: Path, latents: bool, readers: Readers | None, steps: range, positions: range) -> list[Batch]:
    clips = read_table(data / "train.csv")
    source: Source = (
        LatentSource(clips, LatentCache([data / "latents.safetensors"]), readers)
        if latents
        else PixelSource(clips, (32, 32), Sampling(), readers=readers)
    )
    stage, videos = load_config(settings()).stages.of("stage1"), [clip.kind == "video" for clip in clips]
    plan = StagePlan(seed=0, name="stage1", stage=stage, frames=source.frames, videos=videos)
    ahead = Ahead(plan, source, steps, positions, threads=readers.count if readers else int(not latents))
    try:
        return list(ahead)
    finally:
        ahead.close()


def test_any_number_of_workers_ranks_and_resumes_reads_the_same_bytes(data: Path) -> None:
    teams = [Readers(count) for count in (1, 3)]
    for latents in (False, True):
        whole = _batches(data, latents, None, range(1, 7), range(4))
        for readers in teams:
            parts = [
                _batches(data, latents, readers, steps, positions)
                for positions in (range(2), range(2, 4))
                for steps in (range(1, 3), range(3, 7))
            ]
            for batch in [batch for part in parts for batch in part]:
                expected = whole[batch.step - 1]
                rows = slice(batch.positions.start, batch.positions.stop)
                assert torch.equal(batch.data, expected.data[rows]) and batch.data.dtype == expected.data.dtype
                assert batch.windows == expected.windows[rows] and not batch.failures
    for readers in teams:
        readers.close()


def test_a_rank_on_a_gpu_reads_with_its_cores_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for variables, cores, workers in (
        ({}, 64, 16),
        ({"LOCAL_WORLD_SIZE": "8"}, 8, 7),
        ({"LOCAL_WORLD_SIZE": "8", CORES: "4"}, 4, 3),
        ({"LOCAL_WORLD_SIZE": "8", CORES: "12"}, 8, 7),
        ({CORES: "1"}, 1, 0),
    ):
        for name in ("LOCAL_WORLD_SIZE", CORES):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert (cores_of_rank(), automatic("cuda"), automatic("cpu")) == (cores, workers, 0)
