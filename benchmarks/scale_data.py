"""How listing, tables and the latent cache grow with the number of clips.

python -m benchmarks.scale_data WHAT ARGUMENTS...      one measurement in a process of its own
"""

from __future__ import annotations

import csv
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import ROOT, Options, in_process, markdown
from video_vae.data.probed import PROBED, read_probed
from video_vae.data.storage import write_preview
from video_vae.data.table import Clip, write_table
from video_vae.latents.cache import LatentCache, write_latents

FRAMES = 17
KINDS = 8
"""Different videos that the files are made of."""


def make_files(folder: Path, count: int) -> None:
    """Write so many small videos: a few different ones, each file with an empty box of its own at the end.

    Hard links would all be duplicates of a few; these are 3 kB each and all different.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    videos = []
    for kind in range(KINDS):
        scene = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
        write_preview(
            folder / "base.mp4", np.stack([np.roll(scene, kind + t, axis=1) for t in range(FRAMES)])[:, :64, :64], 24
        )
        videos.append((folder / "base.mp4").read_bytes())
    (folder / "base.mp4").unlink()
    for number in range(count):
        box = struct.pack(">I4sQ", 16, b"free", number)
        (folder / f"{number:06d}.mp4").write_bytes(videos[number % KINDS] + box)


def run_manifest(options: Options) -> str:
    """Measure listings of more and more files: the first time, after a kill half-way, and again."""
    rows = []
    for count in (100, 200) if options.quick else (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as name:
            clips, output = Path(name, "clips"), Path(name, "data")
            make_files(clips, count)
            known, before = _killed(clips, output, count // 2)
            _, rest = in_process("scale_child", "listing", clips, output)
            peak, again = in_process("scale_child", "listing", clips, output)
        seconds = before + rest["seconds"]
        killed = f"after {known:,} files; {rest['seconds']:.0f} s more"
        cells = (
            f"{count:,}",
            f"{seconds:.0f}",
            f"{count / seconds:.0f}",
            killed,
            f"{again['seconds']:.1f}",
            f"{peak:.0f}",
        )
        rows.append(cells)
    header = ["files", "s", "files/s", "killed and started again", "once more, nothing new: s", "peak, MB"]
    title = f"Listing a folder of small videos (64x64, {FRAMES} frames), one decoder process a core"
    return markdown(title, header, rows)


def _killed(clips: Path, output: Path, known: int) -> tuple[int, float]:
    """Start a listing, kill it once so many files are known; return how many are, and the seconds that it ran."""
    command = [sys.executable, "-m", "benchmarks.scale_child", "listing", str(clips), str(output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    null = subprocess.DEVNULL
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=null, stderr=null)
    journal = output / PROBED
    # a line has about 230 bytes: counting lines would take longer than the listing
    while process.poll() is None and (not journal.exists() or journal.stat().st_size < 230 * known):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(read_probed(journal)), time.perf_counter() - start


def a_clip(number: int, path: str) -> Clip:
    """Make the row of a clip of 300 frames."""
    return Clip(
        clip_id=f"clip_{number:07d}",
        path=path,
        kind="video",
        source_id=f"{number // 10:016x}",
        start_frame=300 * (number % 10),
        num_frames=300,
        height=720,
        width=1280,
        fps=25.0,
        aspect_ratio=720 / 1280,
        resolution=720 * 1280,
        text="a caption of a dozen words or so, as data sets with captions have them",
        split="",
    )


def run_tables(options: Options) -> str:
    """Measure tables of a million rows."""
    count = 2_000 if options.quick else 1_000_000
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = [folder / f"{number}.mp4" for number in range(10)]
        for video in videos:
            video.touch()
        clips = [a_clip(number, str(videos[number % 10])) for number in range(count)]
        write_table(folder / "manifest.csv", clips)
        columns = ["path", "clip_id", "start_frame", "num_frames", "text"]
        cells = {key: [getattr(clip, key) for clip in clips] for key in columns}
        pd.DataFrame(cells).to_parquet(folder / "source.parquet")
        with (folder / "source.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([columns, *zip(*cells.values(), strict=True)])
        del clips, cells
        for what, table in (("sources, CSV", "source.csv"), ("sources, parquet", "source.parquet")):
            peak, said = in_process("scale_child", "read_source", folder / table)
            assert said["rows"] == count
            rows.append((f"{what}: read, files looked up", f"{said['seconds']:.1f}", f"{peak:.0f}"))
        peak, said = in_process("scale_child", "read_and_split", folder / "manifest.csv")
        rows.append(("manifest, CSV: read", f"{said['seconds']:.1f}", ""))
        rows.append(("split by source", f"{said['split']:.1f}", ""))
        rows.append(("train.csv and test.csv written", f"{said['write']:.1f}", f"{peak:.0f}"))
    return markdown(f"Tables of {count:,} rows", ["", "CPU time, s", "peak, MB"], rows)


def _fill(folder: Path, clips: int, frames: int, side: int) -> Path:
    """Write a cache of made-up moments from one raw part."""
    shape = (frames, 8, side // 8, side // 8)
    part = folder / "part"
    np.random.default_rng(0).normal(size=shape).astype(np.float16).tofile(part)
    names = [f"clip_{number:06d}" for number in range(clips)]
    write_latents(
        folder / "shard_0.safetensors",
        dict.fromkeys(names, part),
        dict.fromkeys(names, shape),
        "float16",
        {"failed": {}},
    )
    return folder / "shard_0.safetensors"


def windows(path: str, seed: int, count: int) -> float:
    """Read random windows, and return the seconds."""
    cache = LatentCache([path])
    rng = random.Random(seed)
    start = time.perf_counter()
    for _ in range(count):
        name = cache.clip_ids[rng.randrange(len(cache))]
        cache.window(name, rng.randrange(cache.num_frames(name) - FRAMES), FRAMES)
    return time.perf_counter() - start


def run_latents(options: Options) -> str:
    """Measure writing the cache and reading random windows of it by 1, 2 and 4 processes."""
    clips, frames, side, count = (20, 40, 64, 50) if options.quick else (2_000, 100, 256, 4_000)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        path = _fill(Path(name), clips, frames, side)
        seconds = time.perf_counter() - start
        size = path.stat().st_size
        rows.append(("bytes per frame (float16)", f"{size / clips / frames:,.0f}"))
        rows.append((f"cache of {clips:,} clips of {frames} frames", f"{size / 1e9:.2f} GB"))
        rows.append(("written, flushed to disk", f"{size / 1e6 / seconds:.0f} MB/s"))
        start = time.perf_counter()
        LatentCache([path])
        rows.append(("opened", f"{(time.perf_counter() - start) * 1000:.0f} ms"))
        for workers in (1, 2, 4):
            with ProcessPoolExecutor(workers) as pool:
                list(pool.map(windows, [str(path)] * workers, range(workers), [10] * workers))
                start = time.perf_counter()
                list(pool.map(windows, [str(path)] * workers, range(10, 10 + workers), [count // workers] * workers))
                seconds = time.perf_counter() - start
            rows.append((f"random {FRAMES}-frame windows, {workers} processes", f"{count / seconds:,.0f} per second"))
    title = f"Latent cache of {side}x{side} frames, in the page cache"
    return markdown(title, ["", "measured"], rows)
