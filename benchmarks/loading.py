"""Training input: windows per second with 0, 1 and 2 workers, against DataLoaders that decode as others do.

All decode whole frames of the same random windows, each worker with one thread, and resize them by the same code.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import OURS, Call, Options, compare, markdown, ratio, spread
from benchmarks.prepare import GROUP, LENGTH, RESOLUTION, write_video
from video_vae.config import Stage
from video_vae.data.open_table import read_table
from video_vae.data.readers import Readers
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.data.transform import look, to_tensor
from video_vae.data.view import View
from video_vae.training.datasets import Ahead, PixelSource
from video_vae.training.plan import StagePlan

SIZES = {"720p": ((720, 1280), 36), "1080p": ((1080, 1920), 24), "4K": ((2160, 3840), 12)}
"""Height and width, and windows per round: at its end one of two workers waits for the other, for half a window."""
FRAMES = 250
WORKERS = (0, 1, 2)
MOST_ROUNDS = 3
"""A round of all sizes takes one and a half minutes."""
GPUS = {"H100": 0.145, "A100": 0.46}
"""Seconds of a stage-3 step on a clip of 17 frames at 256x256, computed: docs/paper.md, 35 % of the peak."""
HEADER = ["", "windows per second, median", "quartiles", f"{OURS}, 2 workers, is faster by"]


def _decord(path: str, frames: Sequence[int]) -> np.ndarray:
    import decord

    pixels: np.ndarray = decord.VideoReader(path, num_threads=1).get_batch(list(frames)).asnumpy()
    return pixels


def _torchcodec(path: str, frames: Sequence[int]) -> np.ndarray:
    decoders: Any = importlib.import_module("torchcodec.decoders")
    decoder = decoders.VideoDecoder(path, num_ffmpeg_threads=1)
    pixels: np.ndarray = decoder.get_frames_in_range(frames[0], frames[-1] + 1).data.permute(0, 2, 3, 1).numpy()
    return pixels


RIVALS: dict[str, Callable[[str, Sequence[int]], np.ndarray]] = {"decord": _decord, "torchcodec": _torchcodec}


class Windows(Dataset[Tensor]):
    """The windows of a round, decoded by another library."""

    def __init__(self, path: str, decode: Callable[[str, Sequence[int]], np.ndarray], count: int) -> None:
        self.path, self.decode, self.starts = path, decode, [0] * count

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> Tensor:
        """Read a window: float32 (3,T,H,W) in [-1,1]."""
        start = self.starts[number]
        frames = self.decode(self.path, range(start, start + LENGTH))
        return to_tensor(look(frames, RESOLUTION, View(zoom=1.0)))


def _plan(clip: Clip) -> StagePlan:
    stage = Stage(steps=1, objective="pixels", frames=(LENGTH, LENGTH), image_share=0.0, global_batch=1)
    return StagePlan(seed=0, name="stage3", stage=stage, frames=[clip.num_frames], videos=[True])


def _calls(clip: Clip, count: int, stack: ExitStack) -> dict[str, Call]:
    """Return what each loader does in a round; all read the same windows, the same ones in each round."""
    plan, calls = _plan(clip), {}
    for workers in WORKERS:
        readers = Readers(workers) if workers else None
        if readers is not None:
            stack.callback(readers.close)
        source = PixelSource([clip], RESOLUTION, Sampling(), readers=readers)
        calls[f"{OURS}, {workers} worker{'s' * (workers != 1)}"] = _ours(plan, source, workers, count)
    for name, decode in RIVALS.items():
        if _works(decode, clip.path):
            windows = Windows(clip.path, decode, count)
            windows.starts = [plan.window(step, 0).start for step in range(1, count + 1)]
            loader = DataLoader(windows, batch_size=1, num_workers=2, persistent_workers=True)
            calls[f"DataLoader + {name}, 2 workers"] = partial(_consume, loader)
    return calls


def _ours(plan: StagePlan, source: PixelSource, workers: int, count: int) -> Call:
    def call() -> None:
        """Read a round's windows as a training does."""
        ahead = Ahead(plan, source, range(1, count + 1), range(1), threads=max(1, workers))
        _consume(ahead)
        ahead.close()

    return call


def _works(decode: Callable[[str, Sequence[int]], np.ndarray], path: str) -> bool:
    try:
        return decode(path, range(LENGTH)).shape[0] == LENGTH
    except (ImportError, RuntimeError, OSError):  # not installed, or without the libraries that it needs
        return False


def _consume(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def _table(name: str, count: int, seconds: Mapping[str, Sequence[float]]) -> list[list[str]]:
    best = seconds[f"{OURS}, {WORKERS[-1]} workers"]
    rows = []
    for loader, values in seconds.items():
        middle, low, high = (f"{count / value:.2f}" for value in spread(values))
        rows.append(
            [f"{name}, {loader}", middle, f"{high} to {low}", ratio(values, best) if values is not best else ""]
        )
    return rows


def _needs(name: str, rate: float) -> list[str]:
    """Say how many workers keep a GPU busy, at so many windows per second and worker."""
    return [name, f"{1 / rate:.2f}", *(f"{1 / (seconds * rate):.1f}" for seconds in GPUS.values())]


def run(options: Options) -> str:
    """Time random windows of H.264 files of three sizes, all loaders in turn; then compute what a GPU needs."""
    sizes = dict(list(SIZES.items())[:1]) if options.quick else SIZES
    frames = 60 if options.quick else FRAMES
    rows, needs = [], []
    for name, (size, count) in sizes.items():
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            video = Path(folder) / f"{name}.mp4"
            write_video(video, size, frames)
            (clip,) = read_table(video)
            seconds = compare(_calls(clip, count, stack), min(options.rounds, MOST_ROUNDS), options.clock)
        rows += _table(name, count, seconds)
        best = spread(seconds[f"{OURS}, {WORKERS[-1]} workers"])[0]
        needs.append(_needs(name, count / best / WORKERS[-1]))
    height, width = RESOLUTION
    title = f"Random {LENGTH}-frame windows at {height}x{width} of H.264, a key frame every {GROUP}, {frames} frames"
    told = [f"no {name} here" for name in RIVALS if not any(name in row[0] for row in rows)]
    text = markdown(title, HEADER, rows) + "".join(f"\n{line}\n" for line in told)
    gpus = [f"workers for one {gpu} ({seconds:.3g} s per clip)" for gpu, seconds in GPUS.items()]
    computed = ["computed", "seconds per window and worker", *gpus]
    return text + markdown("Workers that keep a GPU busy in stage 3, one clip per step", computed, needs)
