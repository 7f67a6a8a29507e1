"""Whole videos in order: one pass against bare decoding loops, and against pieces that each seek back to a key frame.

All decode and convert every frame to 8-bit RGB with one thread. Frames are dropped one by one, as where each is resized
at once, or kept in arrays of some frames.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.common import Options, compare, markdown, ratio, spread
from video_vae.data.frames import iterate_frames
from video_vae.data.video import iterate_pieces, read_frames

PIECE = 32
HEIGHT, WIDTH = 360, 640
CODECS = {"H.264": ("libx264", "x264-params", "mp4"), "HEVC": ("libx265", "x265-params", "mp4")}
GROUPS = (12, 48, 250)
LENGTHS = (100, 1_000, 10_000)


def write_video(path: Path, codec: str, group: int, frames: int) -> None:
    """Write a drifting picture with a moving square, with key frames every `group` frames."""
    library, parameters, _ = CODECS[codec]
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, 1024 // 8, 3), dtype=np.uint8)
    noise = np.repeat(np.repeat(noise, 8, axis=0), 8, axis=1)
    options = {"preset": "ultrafast", "crf": "28", parameters: f"keyint={group}:min-keyint={group}:log-level=none"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(library, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = np.roll(noise, -2 * number, axis=1)[:, :WIDTH].copy()
            picture[100:140, number % (WIDTH - 40) :][:, :40] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def bare(path: Path) -> Iterator[np.ndarray]:
    """Decode as a few lines of PyAV do: uint8 (H,W,3), one by one."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24", threads=1)


def stacked(path: Path, frames: int) -> Iterator[np.ndarray]:
    """Decode as a few more lines do: uint8 (T,H,W,3), `PIECE` frames at a time."""
    decoded = bare(path)
    for start in range(0, frames, PIECE):
        yield np.stack(list(islice(decoded, min(PIECE, frames - start))))


def consume(frames: Iterator[np.ndarray]) -> None:
    """Read to the end, and keep nothing."""
    for _ in frames:
        pass


def run(options: Options) -> str:
    """Time files of several lengths and groups, all ways in turn."""
    lengths = LENGTHS[:1] if options.quick else LENGTHS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            for group in GROUPS:
                for frames in lengths:
                    path = Path(folder) / f"video.{CODECS[codec][2]}"
                    write_video(path, codec, group, frames)
                    rows.append([f"{codec}, {group}", f"{frames:,}", *_row(path, frames, options)])
    times = ["bare loop, ms per frame", "one pass", "bare loop, kept", "one pass, kept", "pieces"]
    header = ["codec, key frame every", "frames", *times, "one pass / bare loop", "the same, kept"]
    return markdown(f"Whole videos in order, {WIDTH}x{HEIGHT}, one thread, in pieces of {PIECE} frames", header, rows)


def _row(path: Path, frames: int, options: Options) -> list[str]:
    seconds = compare(
        {
            "bare": lambda: consume(bare(path)),
            "frames": lambda: consume(iterate_frames(path, range(frames), whole=True)),
            "kept": lambda: consume(stacked(path, frames)),
            "pass": lambda: consume(iterate_pieces(path, range(frames), PIECE, whole=True)),
            "pieces": lambda: consume(
                read_frames(path, range(n, min(n + PIECE, frames))) for n in range(0, frames, PIECE)
            ),
        },
        1 if frames > 1_000 else options.rounds,
        options.clock,
        warm_up=frames <= 1_000,
    )
    times = [f"{spread(values)[0] * 1000 / frames:.2f}" for values in seconds.values()]
    return [*times, ratio(seconds["frames"], seconds["bare"]), ratio(seconds["pass"], seconds["kept"])]
