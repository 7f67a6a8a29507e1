"""What blending does where a reconstruction is put together: at the borders of chunks in time, and of tiles in space.

Both need a net that was trained: the demo's last stage, on the demo's held-out clips (`make demo` makes them).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import Options, markdown
from video_vae.data.open_table import read_table
from video_vae.data.table import Clip
from video_vae.data.transform import resize_crop, to_tensor, to_uint8
from video_vae.data.video import read_clip
from video_vae.metrics import flicker, mse
from video_vae.models import VideoAutoencoderKL
from video_vae.models.chunks import chunk_spans
from video_vae.models.tiling import Tiling
from video_vae.weights.loading import load_video_vae

DEMO = Path("results/demo")
CHUNKS = ((17, 0), (17, 1), (17, 4), (17, 8), (9, 0), (9, 1), (9, 4))
"""Frames of a chunk, and frames that it shares with the next."""
TILES = ((64, 8), (64, 32), (128, 16), (128, 32), (128, 64))
"""Side of a tile and overlap, in pixels."""
SEEN = ((96, 96), 2.0)
"""Resolution and zoom, as config/demo.yaml sees its clips."""
LARGE = ((256, 384), 1.0)
TILED_FRAMES = 9
TILED_CLIPS = 3


def trained(options: Options) -> tuple[VideoAutoencoderKL, list[Clip]]:
    """Load the demo's net and list its held-out clips.

    Raises:
        FileNotFoundError: if the demo has not run.
    """
    model, table = DEMO / "stage3" / "model", DEMO / "data" / "test.csv"
    if not (model.is_dir() and table.is_file()):
        raise FileNotFoundError(f"{model} or {table} is missing: run `make demo` first")
    clips = read_table(table)
    return load_video_vae(model).eval(), clips[:1] if options.quick else clips


def pixels(clip: Clip, seen: tuple[tuple[int, int], float], frames: int | None = None) -> Tensor:
    """Read a clip's first frames as the model sees them, (1, 3, T, H, W) in [-1, 1]."""
    return to_tensor(resize_crop(read_clip(clip, range(clip.num_frames)[:frames]), *seen))[None]


def shown(video: Tensor) -> Tensor:
    """Round (1, 3, T, H, W) to 8 bits, as reconstructions are stored; return (T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(to_uint8(video[0])).permute(0, 3, 1, 2).float() / 255


def decibels(errors: list[float]) -> str:
    """Return the PSNR of the mean of some frames' squared errors, in dB."""
    return f"{-10 * torch.tensor(errors, dtype=torch.float64).mean().log10():.2f}"


def mean(values: list[float]) -> str:
    """Return the mean."""
    return f"{sum(values) / len(values):.2f}"


def borders(frames: int, length: int, overlap: int) -> Iterator[range]:
    """Yield the frames of each border: those that two chunks share, and one on each side."""
    spans = chunk_spans(frames, length, overlap)
    for before, after in itertools.pairwise(spans):
        yield range(after.start - 1, min(before.stop + 1, frames))


class Found:
    """What was measured at the borders of chunks and elsewhere."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.near: list[float] = []
        self.worst: list[float] = []
        self.others: list[float] = []

    def add(self, real: Tensor, generated: Tensor, length: int, overlap: int) -> None:
        """Take a clip, (T, 3, H, W) twice."""
        error, change = mse(real, generated).tolist(), flicker(real, generated).tolist()
        self.all += error
        touched: set[int] = set()
        for border in borders(len(real), length, overlap):
            self.near += [error[frame] for frame in border]
            self.worst.append(max(change[frame] for frame in border[:-1]))  # change n is from frame n to n + 1
            touched.update(border[:-1])
        self.others += [value for frame, value in enumerate(change) if frame not in touched]

    def row(self) -> list[str]:
        """Return the cells of a row."""
        return [decibels(self.all), decibels(self.near), mean(self.worst), mean(self.others)]


def run_chunks(options: Options) -> str:
    """Reconstruct whole clips and clips in chunks; measure both at the chunks' borders."""
    vae, clips = trained(options)
    videos = [pixels(clip, SEEN) for clip in clips]
    rows = []
    with torch.inference_mode():
        latents = [vae.encode_spatial(video) for video in videos]
        for length, overlap in CHUNKS:
            found = {"in chunks": Found(), "whole": Found()}
            for video, z in zip(videos, latents, strict=True):
                for name, chunk, shared in (("in chunks", length, overlap), ("whole", None, 0)):
                    vae.register_to_config(chunk_frames=chunk)
                    generated = vae.decode_latents(_encoded(vae, z, shared), z.shape[2], shared)
                    found[name].add(shown(video), shown(generated), length, overlap)
            for name, measured in found.items():
                rows.append([f"{length} frames, {overlap} shared", name, *measured.row()])
    header = [
        "chunks",
        "clip taken",
        "PSNR, dB",
        "PSNR at borders, dB",
        "worst flicker at a border",
        "flicker elsewhere",
    ]
    frames = sum(video.shape[2] for video in videos)
    return markdown(f"Borders of chunks, {len(videos)} held-out clips ({frames} frames) of the demo", header, rows)


def _encoded(vae: VideoAutoencoderKL, z: Tensor, overlap: int) -> Tensor:
    """Encode scaled spatial latents to normalised ones, as `encode_latents` does from pixels."""
    spans = chunk_spans(z.shape[2], vae.config["chunk_frames"], overlap)
    parts = [vae.temporal_posterior(z[:, :, span.start : span.stop]).mode() for span in spans]
    return vae.normalise(torch.cat(parts, dim=2))


def run_tiles(options: Options) -> str:
    """Reconstruct large frames whole and in tiles; compare both with each other and with the source."""
    vae, clips = trained(options)
    clips = clips[:TILED_CLIPS]
    vae.register_to_config(chunk_frames=None)
    rows = []
    with torch.inference_mode():
        videos = [pixels(clip, LARGE, TILED_FRAMES) for clip in clips]
        real = torch.cat([shown(video) for video in videos])
        whole = torch.cat([shown(vae.reconstruct(video)) for video in videos])
        rows.append(["none", "1", "", "", decibels(mse(real, whole).tolist())])
        for side, overlap in TILES:
            vae.tiling = Tiling(tile=side, overlap=overlap)
            tiled = torch.cat([shown(vae.reconstruct(video)) for video in videos])
            count = len(list(vae.tiling.tiles(*LARGE[0], vae.spatial_compression_ratio)))
            largest = float((tiled - whole).abs().max()) * 255
            errors = [decibels(mse(other, tiled).tolist()) for other in (whole, real)]
            rows.append([f"{side} pixels, {overlap} shared", str(count), errors[0], f"{largest:.0f}", errors[1]])
    header = ["tiles", "number", "PSNR to untiled, dB", "largest difference, grey levels", "PSNR to the source, dB"]
    size = f"{LARGE[0][0]}x{LARGE[0][1]}"
    return markdown(f"Tiles of {size} frames, {len(real)} held-out frames of the demo", header, rows)
