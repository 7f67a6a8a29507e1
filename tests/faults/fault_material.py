"""Trainings and workflow runs to disturb, what must be the same afterwards, and the table of what was tried."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training_material import environment, log_lines, settings
from video_vae.provenance import hardware_record

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
STEPS = 24
OFTEN: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 2, "validate_every": 12}
CONFIG = settings(**OFTEN)
TIMEOUT_SECONDS = 6
"""What the ranks of these tests wait for one that hangs."""
PATTERNS = ("*.safetensors", "*.mkv", "*.mp4", "*.csv", "*.parquet")
"""Files that must be the same, byte for byte; records and logs hold times."""


@dataclass
class Row:
    """A fault: how often it was tried, how often the same command finished the work, and what it cost."""

    tried: int = 0
    recovered: int = 0
    lost: list[float] = field(default_factory=list)
    note: str = ""

    def count(self, faults: int) -> None:
        """Count a trial that went through several faults as so many."""
        self.tried += faults - 1
        self.recovered += faults - 1


class Ledger:
    """Faults that were tried, in their order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.began = time.time()
        self.rows: dict[str, Row] = {}

    def random(self, *names: object) -> random.Random:
        """Return random numbers of their own for a test, the same for the same seed."""
        return random.Random(f"{self.seed} {names}")

    @contextmanager
    def trial(self, fault: str, undisturbed: float = 0.0) -> Iterator[Row]:
        """Count a trial: recovered if the block ends without an exception; lost is its time over the usual one."""
        row = self.rows.setdefault(fault, Row())
        row.tried += 1
        began = time.monotonic()
        yield row
        row.recovered += 1
        row.lost.append(max(0.0, time.monotonic() - began - undisturbed))

    def skip(self, fault: str, why: str) -> None:
        """Note a fault that cannot be tried here."""
        self.rows.setdefault(fault, Row()).note = f"not tried: {why}"

    def lines(self) -> dict[str, str]:
        """Write the table's lines, by fault."""
        lines = {}
        for fault, row in self.rows.items():
            lost = f"{sum(row.lost) / len(row.lost):.0f}" if row.lost else row.note or "-"
            lines[fault] = f"| {fault} | {row.tried} | {row.recovered} | {lost} |"
        return lines


def table(lines: Mapping[str, str]) -> str:
    """Write the table."""
    return "\n".join(["| fault | tried | recovered | time lost, s |", "| --- | ---: | ---: | ---: |", *lines.values()])


def publish(lines: Mapping[str, str], said: str) -> None:
    """Replace what was tried in the table of docs/reliability.md; what was not stays, named as of an earlier run."""
    old = PAGE.read_text(encoding="utf-8")
    found = re.search(r"(?<=<!-- faults -->\n).*?(?=<!-- end -->)", old, re.DOTALL)
    assert found, f"{PAGE} has no table of faults"
    kept = {fault: line for line, fault in re.findall(r"^(\| ([^|]+) \| \d.*)$", found[0], re.MULTILINE)}
    earlier = ", ".join(fault for fault in kept if fault not in lines)
    said += f" Of an earlier run: {earlier}." if earlier else ""
    new = f"{table(kept | dict(lines))}\n\n{said}\n"
    PAGE.write_text(old[: found.start()] + new + old[found.end() :], encoding="utf-8")


def processor() -> str:
    """Name the processor."""
    return str(hardware_record()["processor"])


def command(arguments: Sequence[str], ranks: int = 1, module: str = "video_vae.train") -> list[str]:
    """Return the command line of a job as the workflow starts it."""
    launcher = ["-m", "video_vae.launch", "--ranks", str(ranks), "--threads", str(ranks)]
    return [sys.executable, *launcher, "-m", module, *arguments]


class Job:
    """A job in processes of its own, with temporary files of its own."""

    def __init__(self, line: Sequence[str], scratch: Path, cwd: Path | None = None, **variables: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by a shell's background jobs and theirs
        given = {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(scratch), "VIDEO_VAE_PATIENCE": str(TIMEOUT_SECONDS)}
        self.process = subprocess.Popen(
            line,
            cwd=cwd,
            env={**environment(), **given, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, timeout: float = 280) -> tuple[int, str]:
        """Wait for the end; return the status and what was said."""
        try:
            told = self.process.communicate(timeout=timeout)[1]
        finally:
            self.kill_all()
        return self.process.returncode, told

    def kill_all(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        for pid in session(self.process.pid):
            os.kill(pid, signal.SIGKILL)

    def rank(self, number: int) -> int:
        """Return the process of a rank."""
        for pid in children(self.process.pid):
            variables = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
            if f"RANK={number}" in variables:
                return pid
        raise AssertionError(f"there is no rank {number}")


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def session(pid: int) -> list[int]:
    """Return the living processes of a session."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "--sid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "Z" not in line.split()[1]]


def wait_until_gone(pid: int, timeout: float = 60) -> None:
    """Wait until nothing of a session lives."""
    until = time.monotonic() + timeout
    while session(pid):
        assert time.monotonic() < until, f"still there after {timeout} s: {session(pid)}"
        time.sleep(0.1)


def wait_for(folder: Path, pattern: str, job: Job, timeout: float = 300) -> None:
    """Wait until there is a file."""
    until = time.monotonic() + timeout
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until and job.process.poll() is None, f"no {pattern}: {job.end()[1][-2000:]}"
        time.sleep(0.05)


def wait_for_step(folder: Path, step: int, job: Job) -> None:
    """Wait until a training has logged a step or its process has ended."""
    until = time.monotonic() + 200
    while time.monotonic() < until and job.process.poll() is None:
        for log in folder.glob("state/*/*/log.jsonl"):
            steps = [
                int(number)
                for number in re.findall(r'"step": (\d+), "time": [\d.]+, "event": "train"', log.read_text())
            ]
            if steps and max(steps) >= step:
                return
        time.sleep(0.01)
    raise AssertionError(
        f"no step {step}: {job.end()[1][-2000:]}" if job.process.poll() is not None else f"no step {step}"
    )


def contents(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that must be the same, by its path below a folder."""
    found = sorted({path for pattern in PATTERNS for path in folder.rglob(pattern)})
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if "state" not in path.relative_to(folder).parts
    }


def leftovers(folder: Path) -> list[str]:
    """List what looks half written."""
    return sorted(
        str(path) for path in folder.rglob("*") if path.name.endswith((".part", ".parts", ".old", ".damaged"))
    )


def assert_same(folder: Path, reference: Path, scratch: Path, steps: int = STEPS) -> None:
    """The work is finished, its files are those of the undisturbed run, each step was logged once, nothing is left."""
    assert contents(folder) == contents(reference)
    log = log_lines(folder / "out" / "log.jsonl", "train")
    assert [line["step"] for line in log] == list(range(1, steps + 1))
    before = log_lines(reference / "out" / "log.jsonl", "train")
    assert [line["loss"] for line in log] == [line["loss"] for line in before]
    assert not leftovers(folder)
    assert not list(scratch.glob("video-vae*"))


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Flip a random bit of a file, cut it at a random place, or empty it."""
    content = bytearray(path.read_bytes())
    if how == "flipped":
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
    kept = {"flipped": len(content), "cut": chance.randrange(1, len(content)), "empty": 0}[how]
    path.write_bytes(content[:kept])
