"""Random 17-frame windows of a 10,000-frame video against decoding the whole file for each.

python -m benchmarks.windows PATH HOW COUNT      the windows in a process of their own
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from benchmarks.common import Options, in_process, markdown, spread
from video_vae.data.video import iterate_frames, probe, read_frames

LENGTH = 17


def write_video(path: Path, frames: int) -> None:
    """Write noise that drifts over a gradient, H.264, 320x240, a key frame every 250 frames."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (240, 1024, 3), dtype=np.uint8)
    noise = np.repeat(np.repeat(noise[::8, ::8], 8, axis=0), 8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "28", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            picture = np.roll(noise, -2 * number, axis=1)[:, :320]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))


def child(path: str, how: str, count: int) -> None:
    """Read random windows and print the seconds of the first and of the others."""
    frames = probe(path).num_frames
    rng = random.Random(0)
    seconds = []
    for _ in range(count):
        first = rng.randrange(frames - LENGTH)
        start = time.perf_counter()
        if how == "window":
            window = read_frames(path, range(first, first + LENGTH))
        else:
            whole = list(iterate_frames(path, range(frames)))
            window = np.stack([np.asarray(frame) for frame in whole[first : first + LENGTH]])
        seconds.append(time.perf_counter() - start)
        assert len(window) == LENGTH
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


def run(options: Options) -> str:
    """Time both ways, each in a process of its own."""
    frames = 600 if options.quick else 10_000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write_video(path, frames)
        for name, how, count in (("the window alone", "window", 100), ("the whole file, then the window", "whole", 2)):
            peak, said = in_process("windows", path, how, count, threads=1)
            seconds = said["seconds"]
            middle = spread(seconds)[0]
            limits = f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f}"
            rows.append((name, f"{1 / middle:.2f}", f"{middle * 1000:.0f}", limits, f"{peak:.0f}"))
    header = ["decoded", "windows/s (median)", "ms, median", "ms, least to most", "peak, MB"]
    return markdown(
        f"Random {LENGTH}-frame windows of a {frames}-frame video, 320x240, H.264, one thread", header, rows
    )


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
