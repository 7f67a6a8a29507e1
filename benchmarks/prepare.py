"""Prepared clips: what each kind costs in size and in likeness, and how fast training windows are read of it."""

from __future__ import annotations

import json
import random
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from skimage import data

from benchmarks.common import Options, compare, markdown, ratio, spread
from video_vae.cli import main
from video_vae.config import Data
from video_vae.data.identity import content_sha256
from video_vae.data.open_table import read_table
from video_vae.data.prepared import PreparedClips
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip, write_table
from video_vae.training.datasets import PixelSource
from video_vae.training.plan import Window

LENGTH = 17
SIZES = {"1080p": (1080, 1920), "4K": (2160, 3840)}
RESOLUTION = (256, 256)
GROUP = 250
KINDS = ("h264", "lossless")
HEADER = ["", "ms per window, median", "KiB per frame", "PSNR, dB", "prepared, ms per frame", "faster than the clip"]


def write_video(path: Path, size: tuple[int, int], frames: int) -> None:
    """Write photographs that drift behind each other: H.264 of cameras' quality, a key frame every 250 frames."""
    height, width = size
    pictures = [data.astronaut(), data.coffee(), data.rocket()]
    scene = np.concatenate([np.asarray(Image.fromarray(p).resize((height, height))) for p in pictures], axis=1)
    options = {"preset": "veryfast", "crf": "20", "g": str(GROUP)}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.ascontiguousarray(np.roll(scene, -4 * number, axis=1)[:, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _clip(folder: Path, video: Path) -> Clip:
    """List a video."""
    (clip,) = read_table(video)
    listed = replace(clip, source_id=content_sha256(video)[:16], split="train")
    write_table(folder / "train.csv", [listed])
    return listed


def _prepare(folder: Path, kind: str) -> tuple[float, dict[str, Any], PreparedClips]:
    """Prepare the clip: seconds, the record, and what reads it."""
    config = {"data": {"resolution": list(RESOLUTION), "prepare": kind}}
    shard = folder / f"{kind}.tar"
    where = ["--data-path", str(folder / "train.csv"), "--output", str(shard), "--workers", "1"]
    start = time.process_time()
    with redirect_stderr(StringIO()):
        assert main(["prepare-clips", json.dumps(config), *where]) == 0
    seconds = time.process_time() - start
    record = json.loads(shard.with_suffix(".run.json").read_text(encoding="utf-8"))
    return seconds, record, PreparedClips([shard], Data(resolution=RESOLUTION, prepare=kind))  # type: ignore[arg-type]


def _rows(folder: Path, name: str, frames: int, options: Options) -> list[list[str]]:
    video = folder / f"{name}.mp4"
    write_video(video, SIZES[name], frames)
    clip = _clip(folder, video)
    made = {kind: _prepare(folder, kind) for kind in KINDS}
    given = ([clip], RESOLUTION, Sampling(), 1.0)
    sources = {"the clip": PixelSource(*given)} | {kind: PixelSource(*given, made[kind][2]) for kind in KINDS}
    rng = random.Random(0)

    def read(source: PixelSource) -> None:
        """Read a random window."""
        source.read(Window(row=0, start=rng.randrange(frames - LENGTH), length=LENGTH))

    calls = {kind: (lambda source=source: read(source)) for kind, source in sources.items()}
    seconds = compare(calls, options.rounds, options.clock)
    rows: list[list[str]] = []
    for kind, values in seconds.items():
        shard = video if kind == "the clip" else folder / f"{kind}.tar"
        row = [f"{name}, {kind}", f"{spread(values)[0] * 1000:.0f}", f"{shard.stat().st_size / frames / 1024:.1f}"]
        if kind in made:
            taken, record, _ = made[kind]
            likeness = f"{record['psnr']:.1f}" if "psnr" in record else "exact"
            row += [likeness, f"{1000 * taken / frames:.0f}", ratio(seconds["the clip"], values)]
        rows.append([*row, "", "", ""][: len(HEADER)])
    return rows


def run(options: Options) -> str:
    """Time random windows of the clips and of both kinds of prepared clips, in turn."""
    frames = 60 if options.quick else 300
    names = list(SIZES)[:1] if options.quick else list(SIZES)
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows += _rows(Path(folder), name, frames, options)
    height, width = RESOLUTION
    what = f"H.264 of {frames} frames, key frame every {GROUP}"
    title = f"Random {LENGTH}-frame windows at {height}x{width}, one thread; {what}"
    return markdown(title, HEADER, rows)
