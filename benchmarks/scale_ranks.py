"""Training on more ranks: clips per second here, and the bytes that a step sends, computed and counted.

    torchrun --standalone --nproc_per_node=N -m benchmarks.scale_ranks HOW STEPS      one way, on N ranks

Bytes are counted by the kernel on the loopback of a network namespace of its own, so that nothing else is counted;
where none may be made (it takes root), the machine's own loopback is read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from benchmarks.common import ROOT, Options, markdown, spread
from video_vae.config import Stage
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.training.step import Draws, StageLoss

FRAMES = 17
SIDE = 8
FULL_PARAMETERS = {"stages 1 and 2 (temporal VAE)": 309.7e6, "stage 3 (both VAEs)": 309.7e6 + 83.7e6}
"""Trained parameters of the paper's nets."""
WAYS = {"ddp": "DDP: gradients all-reduced", "fsdp": "FSDP: weights gathered twice, gradients scattered"}
SHARE = {"ddp": 2.0, "fsdp": 3.0}
"""Sizes of the net that a rank sends and receives a step, times (ranks - 1) / ranks."""
LINKS = {"8 GPUs in one node, NVLink": 450e9, "nodes by 4 x 200 Gbit/s": 100e9, "nodes by 1 x 100 Gbit/s": 12.5e9}
"""Bandwidth of a GPU's or a node's links in one direction, bytes/s, as their makers state it."""


def sent() -> int:
    """Return the bytes that went over the loopback so far."""
    for line in Path("/proc/self/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


def build() -> StageLoss:
    """Build stage 1 of a net with fewer channels, with random weights."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    spatial = AutoencoderKL(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, **blocks)
    vae = VideoAutoencoderKL(spatial, TemporalAutoencoderKL(base_channels=32), chunk_frames=None)
    return StageLoss(vae, Stage(steps=1, perceptual_weight=0.0, precision="fp32"), spatial_sample=True)


def child(how: str, steps: int) -> None:
    """Train some steps of one clip per rank; the first rank prints seconds and bytes per step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    loss = build()
    trained = sum(value.numel() for value in loss.trained().values())
    model: Any = loss
    if how == "fsdp":
        model = fully_shard(loss)
    elif dist.get_world_size() > 1:
        model = DistributedDataParallel(loss, broadcast_buffers=False, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-5)
    data = torch.randn(1, 8, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(dist.get_rank()))
    draws = Draws(spatial_seeds=[1], temporal_seeds=[2], scored_frames=[range(FRAMES)])
    seconds, sizes = [], []
    for _ in range(steps + 2):
        dist.barrier()
        before, start = sent(), time.perf_counter()
        model(data, True, False, draws)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        dist.barrier()
        seconds.append(time.perf_counter() - start)
        sizes.append(sent() - before)
    if dist.get_rank() == 0:
        found = {"parameters": trained, "seconds": spread(seconds[2:])[0], "bytes": spread(sizes[2:])[0]}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


def measure(how: str, ranks: int, steps: int) -> dict[str, float]:
    """Run one way on some ranks."""
    train = [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1", "--master-port=29555"]
    train += [f"--nproc-per-node={ranks}", "-m", "benchmarks.scale_ranks", how, str(steps)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    apart = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    probe = [*apart, "true"]
    alone = shutil.which("unshare") and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    command = [*(apart if alone else []), *train]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: Options) -> str:
    """Measure 1 and 2 ranks, count a step's bytes, and compute those of the paper's net on 24 and 256 GPUs."""
    steps = 2 if options.quick else 3 * options.rounds
    one = measure("ddp", 1, steps)
    rows = [("1 rank", f"{one['seconds'] * 1000:.0f}", f"{1 / one['seconds']:.2f}", "", "", "")]
    for how, name in WAYS.items():
        two = measure(how, 2, steps)
        expected = SHARE[how] * 4 * two["parameters"] / 2 * 2  # (ranks - 1) / ranks of it, on each of two ranks
        counted = (f"{expected / 1e6:.1f}", f"{two['bytes'] / 1e6:.1f}", f"{two['bytes'] / expected:.3f}")
        rate = f"{2 / two['seconds']:.2f}"
        rows.append((f"2 ranks, {name}", f"{two['seconds'] * 1000:.0f}", rate, *counted))
    size = (
        f"{one['parameters'] / 1e6:.1f} M parameters, fp32, {FRAMES} frames of {SIDE}x{SIDE} latents, a clip per rank"
    )
    header = ["", "ms per step", "clips/s", "MB per step, all ranks, computed", "counted", "counted / computed"]
    return markdown(f"Ranks of one thread: {size}", header, rows) + _computed()


def _computed() -> str:
    rows = []
    for name, parameters in FULL_PARAMETERS.items():
        for how, label in WAYS.items():
            for ranks in (24, 256):
                volume = SHARE[how] * 4 * parameters * (ranks - 1) / ranks
                times = [f"{volume / speed * 1000:.0f}" for speed in LINKS.values()]
                rows.append((f"{name}, {label.partition(':')[0]}, {ranks} GPUs", f"{volume / 1e9:.2f}", *times))
    header = ["computed", "GB per rank and step", *(f"ms, {name}" for name in LINKS)]
    return markdown("What the paper's nets send a step in fp32, if nothing overlaps", header, rows)


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
