"""Time the paper's nets on one GPU: training steps of each stage, encoding, reconstruction, FloLPIPS.

    python -m benchmarks.gpu [NAME ...] [--quick] [--rounds N] [--publish] [--device DEVICE]

Weights are random, which does not change the time, and nothing is read from disk. Needs torch, diffusers, safetensors
and this package. Without CUDA it says so and ends with status 0; `--device cpu --quick` only shows that it works, and
leaves out compilation.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from benchmarks.common import OURS, ROOT, Call, Options, machine, markdown, show, spread
from benchmarks.step import build, draws, optimizer_of, perceptual
from video_vae.config import STAGES, Stage, StageName, load_config
from video_vae.distributed.device import pick_device
from video_vae.metrics import LPIPS, FloLPIPS, PWCNet
from video_vae.models import VideoAutoencoderKL
from video_vae.training.operations import count_operations, peak
from video_vae.training.speed import apply_options
from video_vae.training.step import StageLoss

WARM_UP = 3
"""Calls that do not count: allocation, choice of kernels, compilation."""
VARIANTS: dict[str, dict[str, object]] = {
    "fp32": {"precision": "fp32"},
    "TF32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "bf16, compiled": {"precision": "bf16", "compile": True},
    "bf16, compiled, channels last": {"precision": "bf16", "compile": True, "channels_last": True},
}
"""What a stage's settings are changed to."""
HEADER = ["", "ms per step, median", "quartiles", "TFLOP/s", "of the peak", "peak memory, GB"]


class Bench:
    """Time calls on a device.

    Args:
        device: where the nets are.
        options: how often.
    """

    def __init__(self, device: torch.device, options: Options) -> None:
        self.device = device
        self.quick = options.quick
        self.rounds = options.rounds
        self.side = 32 if options.quick else 256

    def wait(self) -> None:
        """Wait until all that was asked of the GPU is computed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Call) -> list[float]:
        """Return the seconds of each counted call."""
        found = []
        for number in range(WARM_UP + self.rounds):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            if number >= WARM_UP:
                found.append(time.perf_counter() - start)
        return found

    def forget(self) -> None:
        """Free what the variant before has left, so that its memory does not count."""
        gc.collect()
        torch.compiler.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> str:
        """Return the peak memory since `forget`, in GB."""
        return f"{torch.cuda.max_memory_allocated(self.device) / 1e9:.1f}" if self.device.type == "cuda" else ""

    def video(self, frames: int) -> Tensor:
        """Return a clip (1,3,T,H,W) in [-1,1]."""
        return torch.rand(1, 3, frames, self.side, self.side, device=self.device) * 2 - 1


def stage_of(name: StageName, changed: Mapping[str, object]) -> Stage:
    """Return a stage of the paper's config with some settings changed."""
    stage = load_config(ROOT / "config" / "config.yaml").stages.of(name)
    return stage.model_copy(update=dict(changed))


def loss_of(bench: Bench, stage: Stage) -> StageLoss:
    """Build the paper's nets and the losses of a stage, as its training does."""
    vae = build(bench.quick)
    lpips = perceptual() if stage.objective == "pixels" else None
    if stage.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
        if lpips is not None:
            lpips.recompute = True
    loss = StageLoss(vae, stage, spatial_sample=True, perceptual=lpips).to(bench.device)
    apply_options(vae, stage)
    return loss


def step_row(bench: Bench, title: str, stage: Stage) -> list[str]:
    """Time optimizer steps of one clip, with the longest length that the stage draws."""
    bench.forget()
    frames = 5 if bench.quick else stage.frames[1]
    loss = loss_of(bench, stage)
    optimizer = optimizer_of(loss)
    latents = stage.objective != "pixels"
    size = bench.side // 8
    data = torch.randn(1, 8, frames, size, size, device=bench.device) if latents else bench.video(frames)

    def step() -> None:
        """Take one step."""
        loss(data, latents, False, draws(frames))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = bench.seconds(step)
    rate = count_operations(loss, data, latents, False, draws(frames)) / 1e12 / spread(seconds)[0]
    return [title, *timed(seconds), f"{rate:.1f}", share(bench, rate, stage.precision), bench.memory()]


def public_row(bench: Bench) -> list[str]:
    """Time a stage-1 step as public code takes it: the clip is encoded, and the result decoded and scored by LPIPS."""
    bench.forget()
    stage = stage_of("stage1", VARIANTS["bf16"])
    frames = 5 if bench.quick else stage.frames[1]
    loss, lpips, video = loss_of(bench, stage), perceptual().to(bench.device), bench.video(frames)
    optimizer = optimizer_of(loss)

    def step() -> None:
        """Take one step; the scores are thrown away."""
        loss(video, False, False, draws(frames))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad(), loss.autocast(bench.device):
            latents = loss.spatial_latents(video, False, None)
            lpips(video[0].transpose(0, 1), loss.vae.decode_spatial(latents)[0].transpose(0, 1))

    return [
        "stage 1 as public code, bf16: encode, decode and LPIPS in every step",
        *timed(bench.seconds(step)),
        "",
        "",
        bench.memory(),
    ]


def timed(seconds: list[float]) -> list[str]:
    """Write median and quartiles in milliseconds."""
    middle, low, high = (f"{value * 1000:.1f}" for value in spread(seconds))
    return [middle, f"{low} to {high}"]


def share(bench: Bench, rate: float, precision: str) -> str:
    """Write a rate in TFLOP/s as a share of what the card's maker states; nothing where that is not known."""
    most = peak(torch.cuda.get_device_name(bench.device), precision) if bench.device.type == "cuda" else None
    return "" if most is None else f"{rate / most:.0%}"


def run_steps(bench: Bench) -> str:
    """Time a step of each stage in each variant."""
    rows = []
    for name in STAGES:
        for title, changed in VARIANTS.items():
            if bench.quick and "compile" in changed:
                continue
            stage = stage_of(name, changed)
            try:
                rows.append(step_row(bench, f"stage {name[-1]}, {title}", stage))
            except torch.cuda.OutOfMemoryError:
                rows.append([f"stage {name[-1]}, {title}", "out of memory", "", "", "", bench.memory()])
        if name == STAGES[0]:
            rows.append(public_row(bench))
    counts = "5 frames" if bench.quick else "the longest of each stage's lengths"
    what = f"{bench.side}x{bench.side}, {counts}, cached latents in stages 1 and 2, pixels in stage 3"
    return markdown(f"Training steps of one clip: {what}", HEADER, rows)


@torch.inference_mode()
def run_frames(bench: Bench) -> str:
    """Time what is encoded, decoded and reconstructed, in frames per second."""
    frames = 5 if bench.quick else 17
    rows = []
    for precision in ("fp32", "bf16"):
        bench.forget()
        vae, video = build(bench.quick).to(bench.device).eval(), bench.video(frames)
        vae.spatial.to(memory_format=torch.channels_last)
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16"):
            for title, call in frame_calls(vae, video):
                seconds = bench.seconds(call)
                middle, low, high = (frames / value for value in spread(seconds))
                rows.append([f"{title}, {precision}", f"{middle:.0f}", f"{high:.0f} to {low:.0f}", bench.memory()])
    title = f"Frames through the nets, clips of {frames} frames of {bench.side}x{bench.side}, one at a time"
    return markdown(title, ["", "frames/s, median", "quartiles", "peak memory, GB"], rows)


def frame_calls(vae: VideoAutoencoderKL, video: Tensor) -> Iterator[tuple[str, Call]]:
    """Yield what is timed of a video VAE."""
    latents = vae.encode_latents(video)
    yield "spatial encoder alone (latent cache)", lambda: vae.spatial_posterior(video)
    yield "encode", lambda: vae.encode_latents(video)
    yield "decode", lambda: vae.decode_latents(latents, video.shape[2])
    yield "reconstruct", lambda: vae.decode_latents(vae.encode_latents(video), video.shape[2])


@torch.inference_mode()
def run_flolpips(bench: Bench) -> str:
    """Time FloLPIPS with PWC-Net against a loop over the pairs."""
    frames = 5 if bench.quick else 17
    bench.forget()
    metric = FloLPIPS(LPIPS("alex"), PWCNet()).to(bench.device).eval()
    real, generated = (bench.video(frames)[0].transpose(0, 1) / 2 + 0.5 for _ in range(2))

    def loop() -> None:
        """Score two frames at a time."""
        for first in range(frames - 1):
            metric(real[first : first + 2], generated[first : first + 2])

    rows = []
    for title, call in {"a pair at a time": loop, OURS: lambda: metric(real, generated)}.items():
        middle, low, high = ((frames - 1) / value for value in spread(bench.seconds(call)))
        rows.append([title, f"{middle:.1f}", f"{high:.1f} to {low:.1f}", bench.memory()])
    title = f"FloLPIPS with PWC-Net, {frames} frames of {bench.side}x{bench.side}, fp32"
    return markdown(title, ["", "pairs/s, median", "quartiles", "peak memory, GB"], rows)


BENCHMARKS: dict[str, Callable[[Bench], str]] = {
    "gpu-steps": run_steps,
    "gpu-frames": run_frames,
    "gpu-flolpips": run_flolpips,
}


def main() -> None:
    """Run what was asked for, where there is a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=f"{', '.join(BENCHMARKS)} [all]"
    )
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="calls that count [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--publish", action="store_true", help="keep the tables in benchmarks/README.md")
    parser.add_argument("--device", default="cuda", help="[%(default)s]")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stdout.write("bench-gpu: skipped, torch finds no CUDA device (--device cpu --quick shows that it works)\n")
        return
    if args.publish and (args.quick or args.device == "cpu"):
        parser.error("only full sizes on a GPU are published")
    device = pick_device(args.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    for name in args.names or BENCHMARKS:
        bench = Bench(device, Options(rounds=args.rounds, quick=args.quick))
        show(name, partial(BENCHMARKS[name], bench), f"{card}, {machine()}", args.publish)


if __name__ == "__main__":
    main()
