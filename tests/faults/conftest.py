"""One undisturbed run as reference for all, and the table at the end."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.fault_material import CONFIG, Job, Ledger, command, processor, publish, table
from training_material import cached, encode, hash_sources, make_data, options

LEDGER = pytest.StashKey[Ledger]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of the random moments [the time]")
    parser.addoption("--publish", action="store_true", help="keep the table in docs/reliability.md")


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption("--seed", default=None)
    config.stash[LEDGER] = Ledger(int(time.time()) % 100_000 if seed is None else seed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash.get(LEDGER, None)
    if ledger is None or not ledger.rows:
        return
    cores = f"{os.cpu_count()} cores, load at the end {os.getloadavg()[0]:.0f}"
    today = datetime.datetime.now(datetime.UTC).date()
    minutes = (time.time() - ledger.began) / 60
    said = f"{today}, {processor()}, {cores}; {minutes:.0f} minutes; seed {ledger.seed}."
    skipped = sorted({report.location[2] for report in terminalreporter.stats.get("skipped", [])})
    said += f" Left out: {', '.join(skipped)}." if skipped else ""
    terminalreporter.write_line(f"\n{table(ledger.lines())}\n\n{said}")
    if config.getoption("--publish", default=False):
        publish(ledger.lines(), said)


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.config.stash[LEDGER]


class Reference(NamedTuple):
    """What an undisturbed run made, and how long it took."""

    folder: Path
    seconds: float


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_data(folder)
    hash_sources(folder)
    encode(folder)
    return folder


def trained(data: Path, name: str, ranks: int) -> Reference:
    began = time.monotonic()
    arguments = options(data, data / name / "out", *cached(data), config=CONFIG)
    status, told = Job(command(arguments, ranks), data / name / "tmp").end()
    assert status == 0, told
    return Reference(data / name, time.monotonic() - began)


@pytest.fixture(scope="session")
def two_ranks(data: Path) -> Reference:
    return trained(data, "two", 2)


@pytest.fixture(scope="session")
def one_rank(data: Path) -> Reference:
    return trained(data, "one", 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB that can be enlarged: `mount -o remount,size=...`."""
    import subprocess

    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if os.geteuid() or made.returncode:
        pytest.skip("a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)
