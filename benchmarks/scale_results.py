"""How the job graph, an evaluation and the report grow with clips and experiments."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import ROOT, Options, markdown, run_measured
from video_vae.data.storage import write_lossless

sys.path[:0] = [
    str(ROOT / "tests" / "unit"),
    str(ROOT / "tests"),
]  # the made-up results and the browser of the report's own tests
METRICS = ("psnr", "ssim", "flicker")
SMALL = 10
"""Clips of the made-up results that are multiplied."""
ID_LENGTH = len("clip_00")


def environment() -> dict[str, str]:
    """Return the environment of a child that uses this checkout's package with one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@contextmanager
def checkout() -> Iterator[Path]:
    """Copy the workflow into a folder in which nothing has run."""
    with tempfile.TemporaryDirectory() as name:
        for part in ("workflow", "config", "envs", "src"):
            shutil.copytree(ROOT / part, Path(name, part), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(name)


def used() -> float:
    """Return the processor time of the children that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def dry_run(folder: Path, settings: dict[str, Any]) -> tuple[int, float, float]:
    """Plan the demo with some settings changed; return the number of jobs, the seconds and the CPU seconds."""
    (folder / "changed.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", "config/demo.yaml", "changed.json"]
    start, before = time.perf_counter(), used()
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    seconds, busy = time.perf_counter() - start, used() - before
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    jobs = int(re.findall(r"^total\s+(\d+)$", done.stdout + done.stderr, re.MULTILINE)[0])
    return jobs, seconds, busy


def make_clips(folder: Path, count: int) -> None:
    """Fill a folder with names of clips; a file takes only so many hard links."""
    folder.mkdir()
    for start in range(0, count, 10_000):
        first = folder / f"{start:06d}.mp4"
        first.write_bytes(b"clip")
        for number in range(start + 1, min(start + 10_000, count)):
            (folder / f"{number:06d}.mp4").hardlink_to(first)


def run_graph(options: Options) -> str:
    """Time dry runs by clips, experiments and shards."""
    most, many = (1_000, 10) if options.quick else (100_000, 100)
    sizes, counts = sorted({10, 1_000, most}), sorted({1, 10, many})
    cases = [(clips, count, 1) for clips in sizes for count in counts] + [(most, 1, 64), (most, many, 16)]
    rows = []
    with checkout() as folder:
        for clips in sizes:
            make_clips(folder / f"clips_{clips}", clips)
        for clips, experiments, shards in cases:
            weights = {f"run_{number:03d}": number * 1e-6 for number in range(2, experiments + 1)}
            settings: dict[str, Any] = {"data": {"sources": [f"clips_{clips}"], "packages": []}}
            settings["experiments"] = {name: {"stages": {"stage3": {"kl_weight": w}}} for name, w in weights.items()}
            settings |= {"latents": {"shards": shards}, "reconstruction": {"shards": shards}}
            jobs, seconds, busy = dry_run(folder, settings)
            rows.append((f"{clips:,}", experiments, shards, f"{jobs:,}", f"{busy:.1f}", f"{seconds:.1f}"))
    header = ["clips", "experiments", "shards", "jobs", "CPU time, s", "s"]
    return markdown("`snakemake -n` of a fresh checkout", header, rows)


def run_evaluation(options: Options) -> str:
    """Measure the peak memory of an evaluation by the number of clips."""
    rows = []
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    for clips in (4, 8) if options.quick else (10, 100, 1_000):
        with tempfile.TemporaryDirectory() as name:
            for number in range(clips):
                for variant in ("ori", "rec", "spatial"):
                    file = Path(name, f"x_{variant}", f"clip_{number:05d}.mkv")
                    file.parent.mkdir(exist_ok=True)
                    if number == 0:
                        write_lossless(file, np.roll(frames, ord(variant[0]), axis=2), 24)
                    else:
                        file.hardlink_to(file.with_name("clip_00000.mkv"))
            command = [sys.executable, "-m", "video_vae.evaluate", "--real_video_dir", f"{name}/x_ori"]
            command += ["--generated_video_dir", f"{name}/x_rec", f"{name}/x_spatial", "--metric", *METRICS]
            command += ["--output_dir", f"{name}/scores", "--device", "cpu"]
            start = time.perf_counter()
            peak, _ = run_measured(command, environment())
            seconds = time.perf_counter() - start
            record = Path(name, "scores", "run.json").stat().st_size
        rows.append((f"{clips:,}", f"{seconds:.0f}", f"{peak:.0f}", f"{record / 1e3:.0f}"))
    title = "`video_vae.evaluate` of two variants, clips of 9 frames of 64x64: PSNR, SSIM and flicker"
    return markdown(title, ["clips", "s", "peak, MB", "run.json, kB"], rows)


def multiply(results: Path, clips: int) -> None:
    """Give the tables of a small run the rows of many clips; their pictures are links to those of the few."""
    for file in [*results.glob("*/*/metrics/frames.parquet"), *results.glob("*/*/metrics/clips.csv")]:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
        more = _repeated(table, clips)
        more.to_parquet(file) if file.suffix == ".parquet" else more.to_csv(file, index=False)
    for name in ("test.csv", "manifest.csv"):
        for file in results.glob(f"*/data/{name}"):
            _repeated(pd.read_csv(file), clips).to_csv(file, index=False)
    for file in results.glob("*/*/reconstruction_*/clip_*"):
        name, end = file.name[:ID_LENGTH], file.name[ID_LENGTH:]
        for number in range(1, clips // SMALL):
            file.with_name(f"{name}_{number}{end}").hardlink_to(file)


def _repeated(table: pd.DataFrame, clips: int) -> pd.DataFrame:
    held_out = table[table["clip_id"].str.startswith("clip_")]
    times = -(-clips // held_out["clip_id"].nunique())
    parts = [held_out.assign(clip_id=held_out["clip_id"] + f"_{number}") for number in range(1, times)]
    return pd.concat([table, *parts], ignore_index=True)


def run_report(options: Options) -> str:
    """Measure the page of a run with many clips: its size, the time to write it, and to open it in Chromium."""
    from chromium import BINARY, browser, wait
    from report_material import build_report, make_results

    rows = []
    for clips in (3, 6) if options.quick else (10, 1_000):
        with tempfile.TemporaryDirectory() as name:
            config = make_results(Path(name, "results"), clips=min(clips, SMALL))
            multiply(Path(name, "results"), clips)
            start = time.perf_counter()
            build_report(config, Path(name, "results"), Path(name, "report.html"))
            seconds = time.perf_counter() - start
            size = Path(name, "report.html").stat().st_size
            opened = []
            for _ in range(options.rounds if BINARY else 0):
                with browser() as chromium:
                    page = chromium.new_page()
                    start = time.perf_counter()
                    page.goto(Path(name, "report.html").as_uri())
                    wait(page, "document.querySelectorAll('#clip-table tbody tr').length > 0")
                    opened.append(time.perf_counter() - start)
        shown = f"{min(opened):.2f} to {max(opened):.2f}" if opened else "no chromium"
        rows.append((f"{clips:,}", f"{seconds:.0f}", f"{size / 1e6:.1f}", shown))
    header = ["clips", "s to write", "MB", "s to open: page loaded, table of clips there"]
    return markdown("The report by the number of held-out clips", header, rows)
