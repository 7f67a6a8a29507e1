"""What the benchmarks share: rivals timed in turn, peak memory of a process, tables, the machine."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

OURS = "**video-vae**"
ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "scale.md")
Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run of the benchmarks may choose."""

    rounds: int = 7
    """Rounds that count."""
    quick: bool = False
    """Small sizes: shows that a benchmark works, its figures mean nothing."""
    clock: str = "wall"
    """Wall, or cpu on a machine that is busy otherwise."""


def compare(
    rivals: Mapping[str, Call], rounds: int, clock: str = "wall", warm_up: bool = True
) -> dict[str, list[float]]:
    """Time calls in turn, so that a busy machine is busy for all: seconds of each round, after one that is not counted.

    The first round's order is turned by one in each further round. Calls of many seconds need no warm-up.
    """
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for number in range(0 if warm_up else 1, rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = now()
            rivals[name]()
            if number:
                seconds[name].append(now() - start)
    return seconds


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """Write the ratio of two rivals' times, round by round: its median and quartiles."""
    middle, low, high = spread([a / b for a, b in zip(slower, faster, strict=True)])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def markdown(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table under a heading; all columns but the first are aligned right."""
    lines = [f"\n### {title}\n", "| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def table(title: str, seconds: Mapping[str, Sequence[float]], unit: str, units: int, parts: bool = False) -> str:
    """Write times a unit; speed-ups are over the first rival, round by round, unless these are parts of a whole."""
    first = next(iter(seconds.values()))
    header = ["", f"ms per {unit}, median", "quartiles"] + ["speed-up, median (quartiles)"] * (not parts)
    rows = []
    for name, values in seconds.items():
        middle, low, high = (f"{value * 1000 / units:.2f}" for value in spread(values))
        rows.append([name, middle, f"{low} to {high}"] + [ratio(first, values)] * (not parts))
    return markdown(title, header, rows)


def in_process(module: str, *arguments: object, threads: int | None = None) -> tuple[float, dict[str, Any]]:
    """Run `python -m benchmarks.MODULE ARGUMENTS`, which prints JSON; return its peak memory in MB and what it says.

    Raises:
        RuntimeError: with its errors, if it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), environment.get("PYTHONPATH", "")])
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    peak, output = run_measured(command, environment)
    return peak, json.loads(output.splitlines()[-1])


def run_measured(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Run a command; return its peak memory in MB (without its children's) and its standard output.

    Raises:
        RuntimeError: with its errors, if it fails.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors)
        peak = 0.0
        # The kernel's own account of a finished process (ru_maxrss) would start at this process's peak.
        while process.poll() is None:
            peak = _peak_so_far(process.pid) or peak
            time.sleep(0.02)
        for stream in (output, errors):
            stream.seek(0)
        if process.returncode:
            raise RuntimeError(errors.read())
        return peak, output.read()


def _peak_so_far(pid: int) -> float:
    """Return the peak memory of a running process in MB, 0 where it has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def processor() -> str:
    """Name the processor and the widest vectors that torch uses on it."""
    name = platform.processor() or "unknown processor"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def machine() -> str:
    """Say where the benchmarks run."""
    return (
        f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"load at the start {os.getloadavg()[0]:.1f}"
    )


def show(name: str, run: Callable[[], str], where: str, keep: bool) -> None:
    """Run a benchmark, print its tables with the day, the machine and the time taken, and keep them if asked."""
    start = time.perf_counter()
    text = run()
    today = datetime.datetime.now(datetime.UTC).date()
    text += f"\n{today}, {where}; took {time.perf_counter() - start:.0f} s.\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    if keep:
        publish(name, text)


def publish(name: str, text: str) -> None:
    """Replace a benchmark's section of the page that has it.

    Raises:
        ValueError: if no page has such a section, or more than one.
    """
    section = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    found = [page for page, old in pages.items() for _ in section.finditer(old)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} sections of {', '.join(map(str, PAGES))} are named {name}")
    new = section.sub(lambda part: f"{part[1]}{text}\n{part[2]}", pages[found[0]])
    found[0].write_text(new, encoding="utf-8")
