"""Peak memory of coding a video by its length: streamed with carried states, and in one pass.

python -m benchmarks.long_video HOW FRAMES SIDE      one video in a process of its own
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from benchmarks.common import OURS, Options, in_process, markdown
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL

CHUNK = 16
WHOLE = 500
"""Longest video that is coded in one pass."""


class Video:
    """Chunks of a made-up video, made when they are asked for."""

    def __init__(self, frames: int, side: int) -> None:
        self.frames, self.side = frames, side

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (1,3,t,H,W) in [-1,1]."""
        for start in range(0, self.frames, CHUNK):
            length = min(CHUNK, self.frames - start)
            yield torch.rand(1, 3, length, self.side, self.side, generator=torch.Generator().manual_seed(start)) * 2 - 1


def child(how: str, frames: int, side: int) -> None:
    """Encode and decode a video and print the seconds."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    spatial = AutoencoderKL(block_out_channels=(16, 32, 64, 64), layers_per_block=1, norm_num_groups=8, **blocks)
    temporal = TemporalAutoencoderKL(base_channels=32, layers_per_block=1, norm_scope="frame")
    vae = VideoAutoencoderKL(spatial, temporal, chunk_frames=None).eval()
    video = Video(frames, side)
    start = time.perf_counter()
    with torch.inference_mode():
        if how == "stream":
            done = sum(part.shape[2] for part in vae.decode_stream(vae.encode_stream(video, frames), frames))
        else:
            done = vae.reconstruct(torch.cat(list(video), dim=2)).shape[2]
    assert done == frames
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


def run(options: Options) -> str:
    """Measure some lengths."""
    side, rows = 64, []
    for frames in (32, 64) if options.quick else (100, 500, 2000):
        for how, name in (("stream", OURS + ", streamed"), ("whole", "one pass")):
            if how == "stream" or frames <= WHOLE:
                peak, said = in_process("long_video", how, frames, side)
                rows.append((name, frames, f"{peak:.0f}", f"{frames / said['seconds']:.0f}"))
    header = ["", "frames", "peak, MB", "frames/s"]
    title = f'Peak memory by length, {side}x{side}, a small net with `norm_scope="frame"` ({CHUNK} frames a chunk)'
    return markdown(title, header, rows)


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
