"""Time the metrics against the loops and libraries in use today: one run, one machine, the same inputs.

    python benchmarks/metrics.py [--frames 17] [--size 256] [--rounds 7] [--clips 6] [--clock wall] [--only ssim ...]

Prints markdown tables. Rivals take turns, round after round, so that a busy machine is busy for all of them; the median
over the rounds stands with the quartiles around it. LPIPS has its real heads over a random backbone, PWC-Net random
weights: neither changes the time. piqa and torchmetrics are measured where they are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from skimage import data
from skimage.metrics import structural_similarity
from torch import Tensor

from video_vae.data.storage import write_lossless
from video_vae.metrics import DIS, LPIPS, FloLPIPS, PWCNet, psnr, ssim
from video_vae.metrics.flolpips import weighted_distance

OURS = "**video-vae**"
Call = Callable[[], object]


def pictures(frames: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a moving photograph and two degraded copies, (T,3,H,W) in [0,1], rounded to 8 bits."""
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    room = 512 - size
    starts = [(round(room * step / frames), round(room * (1 - step / frames))) for step in range(frames)]
    real = torch.stack([photograph[:, top : top + size, left : left + size] for top, left in starts])
    noise = torch.Generator().manual_seed(0)
    rough, fine = ((real + spread * torch.randn(real.shape, generator=noise)).clamp(0, 1) for spread in (0.03, 0.02))
    return real, (rough * 255).round() / 255, (fine * 255).round() / 255


def compare(rivals: Mapping[str, Call], rounds: int, clock: str) -> dict[str, list[float]]:
    """Time calls in turn: seconds of each round, after one that does not count."""
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name, call in rivals.items():
            start = now()
            call()
            if number:
                seconds[name].append(now() - start)
    return seconds


def table(title: str, seconds: Mapping[str, Sequence[float]], unit: str, units: int) -> str:
    """Write times a unit as a markdown table; ratios are to the first rival."""
    lines = [f"\n### {title}\n", f"| | ms a {unit}, median | quartiles | speed-up |", "| --- | ---: | ---: | ---: |"]
    first = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (median,) * 3
        shown = [f"{value * 1000 / units:.2f}" for value in (median, low, high)]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} to {shown[2]} | {first / median:.1f} |")
    return "\n".join(lines) + "\n"


def loop_ssim_psnr(real: Tensor, generated: Tensor) -> None:
    """Score a frame at a time: scikit-image's SSIM in float64, PSNR in numpy."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for first, second in zip(real.numpy(), generated.numpy(), strict=True):
        a, b = first.astype(np.float64), second.astype(np.float64)
        structural_similarity(a, b, channel_axis=0, **options)
        10 * np.log10(1.0 / np.square(a - b).mean())


def piqa_ssim_psnr(real: Tensor, generated: Tensor) -> Call | None:
    """Return the same by piqa, or None where it is not installed."""
    try:
        import piqa  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    metrics = piqa.SSIM(reduction="none"), piqa.PSNR(reduction="none")
    return lambda: [metric(generated, real) for metric in metrics]


def torchmetrics_ssim_psnr(real: Tensor, generated: Tensor) -> Call | None:
    """Return the same by torchmetrics, or None where it is not installed."""
    try:
        from torchmetrics.functional import image  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    one = {"reduction": "none", "data_range": 1.0}
    return lambda: [
        image.structural_similarity_index_measure(generated, real, **one),
        image.peak_signal_noise_ratio(generated, real, dim=(1, 2, 3), **one),
    ]


def bench_ssim(args: argparse.Namespace) -> str:
    """Time SSIM and PSNR together."""
    real, generated, _ = pictures(args.frames, args.size)
    rivals: dict[str, Call | None] = {
        "loop: scikit-image (float64) and numpy, a frame at a time": lambda: loop_ssim_psnr(real, generated),
        "piqa, all frames": piqa_ssim_psnr(real, generated),
        "torchmetrics, all frames": torchmetrics_ssim_psnr(real, generated),
        OURS: lambda: (ssim(real, generated), psnr(real, generated)),
    }
    seconds = compare({name: call for name, call in rivals.items() if call is not None}, args.rounds, args.clock)
    absent = [name.split(",")[0] for name, call in rivals.items() if call is None]
    note = f"\nNot installed here: {', '.join(absent)}.\n" if absent else ""
    return table("SSIM and PSNR together", seconds, "frame", args.frames) + note


def lpips_package() -> Any:
    """Return the lpips package's net, as users of `spatial=True` have it."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False)


def bench_lpips(args: argparse.Namespace) -> str:
    """Time LPIPS of two variants against the same originals."""
    real, *variants = pictures(args.frames, args.size)
    package, metric = lpips_package(), LPIPS("alex")
    metric.load_state_dict(package.state_dict())
    size = (args.size, args.size)

    def loop() -> None:
        for generated in variants:
            for a, b in zip(real.split(1), generated.split(1), strict=True):
                package(a * 2 - 1, b * 2 - 1).mean().item()

    def batched() -> None:
        for generated in variants:
            package(real * 2 - 1, generated * 2 - 1).mean(dim=(1, 2, 3))

    def ours() -> None:
        features = metric.features(real)
        for generated in variants:
            metric.score(metric.distances(features, metric.features(generated)), size)

    with torch.inference_mode():
        rivals = {"loop: lpips, spatial, a frame at a time": loop, "lpips, spatial, all frames": batched, OURS: ours}
        seconds = compare(rivals, args.rounds, args.clock)
    title = "LPIPS (AlexNet) of two variants against the same originals"
    return table(title, seconds, "frame of a variant", 2 * args.frames)


def bench_flolpips(args: argparse.Namespace) -> str:
    """Time FloLPIPS a pair of frames, and its parts."""
    pairs = min(args.frames - 1, 4)
    real, generated, _ = (frames[: pairs + 1] for frames in pictures(args.frames, args.size))
    lpips, pwcnet, dis = LPIPS("alex"), PWCNet(), DIS()
    with torch.inference_mode():
        distances = lpips.distances(lpips.features(real[:-1]), lpips.features(generated[:-1]))
        flows = [dis(frames[:-1], frames[1:]) for frames in (real, generated)]

        def features() -> None:
            lpips.distances(lpips.features(real[:-1]), lpips.features(generated[:-1]))

        calls: dict[str, Call] = {
            "FloLPIPS with PWC-Net": lambda: FloLPIPS(lpips, pwcnet)(real, generated),
            "FloLPIPS with DIS": lambda: FloLPIPS(lpips, dis)(real, generated),
            "part: LPIPS features and distances, both videos": features,
            "part: PWC-Net, both videos": lambda: [pwcnet(f[:-1], f[1:]) for f in (real, generated)],
            "part: DIS, both videos": lambda: [dis(f[:-1], f[1:]) for f in (real, generated)],
            "part: weighting": lambda: weighted_distance(distances, flows[0], flows[1]),
        }
        return table("FloLPIPS", compare(calls, max(2, args.rounds // 2), args.clock), "pair of frames", pairs)


def save_clips(folder: Path, clips: int, frames: np.ndarray, generated: np.ndarray) -> None:
    """Write the same clip several times as originals and reconstructions."""
    for kind, content in (("ori", frames), ("rec", generated)):
        (folder / f"x_{kind}").mkdir(parents=True)
        for number in range(clips):
            write_lossless(folder / f"x_{kind}" / f"{number}.mkv", content, 24)


def evaluate(folder: Path, threads: int, ranks: int, metrics: Sequence[str]) -> tuple[float, float]:
    """Score a folder in a fresh process; return the seconds from the reading of arguments on, and the peak in MB."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    where = ["--real_video_dir", f"{folder}/x_ori", "--generated_video_dir", f"{folder}/x_rec", "--lpips", str(folder)]
    options = [*where, "--device", "cpu", "--output_dir", f"{folder}/scores", "--metric", *metrics]
    command = [sys.executable, *launcher, "-m", "video_vae.evaluate", *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
        contextlib.suppress(ChildProcessError),
    ):
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(errors.decode())
    seconds = json.loads((folder / "scores/run.json").read_text(encoding="utf-8"))["seconds"]
    return float(seconds), usage.ru_maxrss / 1024


def as_clip(frames: Tensor) -> np.ndarray:
    """Turn (T,3,H,W) in [0,1] into uint8 (T,H,W,3)."""
    return (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def bench_folder(args: argparse.Namespace) -> str:
    """Time the evaluation of a folder on one and two threads and ranks."""
    metrics = ("psnr", "ssim", "lpips", "flolpips", "flicker")
    real, generated, _ = pictures(args.frames, args.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_clips(folder, args.clips, as_clip(real), as_clip(generated))
        save_weights(folder)
        runs = {"1 thread": (1, 1), "2 threads": (2, 1), "2 ranks of 1 thread": (1, 2)}
        seconds: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(max(2, args.rounds // 2)):
            for label, (threads, ranks) in runs.items():
                seconds[label].append(evaluate(folder, threads, ranks, metrics)[0])
    title = f"`video_vae.evaluate` on a folder of {args.clips} clips, all metrics, DIS flow (without Python's start)"
    return table(title, seconds, "frame", args.clips * args.frames)


def save_weights(folder: Path) -> None:
    """Write LPIPS weights as the evaluation reads them."""
    state = lpips_package().state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith(("lins", "scaling"))}, folder / "alex.safetensors")


def bench_memory(args: argparse.Namespace) -> str:
    """Measure the memory that a clip takes by its length."""
    metrics = ("psnr", "ssim", "lpips", "flolpips", "flicker")
    lines = [
        "\n### Peak memory of `video_vae.evaluate` by the length of a clip\n",
        "| frames | MB |",
        "| ---: | ---: |",
    ]
    real, generated, _ = pictures(20, args.size)
    for frames in (20, 200, 600):
        with tempfile.TemporaryDirectory() as name:
            repeat = (frames // 20, 1, 1, 1)
            save_clips(Path(name), 1, np.tile(as_clip(real), repeat), np.tile(as_clip(generated), repeat))
            save_weights(Path(name))
            lines.append(f"| {frames} | {evaluate(Path(name), 1, 1, metrics)[1]:.0f} |")
    return "\n".join(lines) + "\n"


BENCHMARKS: dict[str, Callable[[argparse.Namespace], str]] = {
    "ssim": bench_ssim,
    "lpips": bench_lpips,
    "flolpips": bench_flolpips,
    "folder": bench_folder,
    "memory": bench_memory,
}


def processor() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def main() -> None:
    """Run the benchmarks and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=17, help="frames of a clip [17]")
    parser.add_argument("--size", type=int, default=256, help="side of a frame, in pixels [256]")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count [7]")
    parser.add_argument("--clips", type=int, default=6, help="clips of the folder [6]")
    clock_help = "wall, or cpu on a machine that is busy otherwise, with OMP_NUM_THREADS=1 [wall]"
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=clock_help)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="which to run [all]")
    args = parser.parse_args()
    sys.stdout.write(
        f"{args.frames} frames of {args.size}x{args.size}, {processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.rounds} rounds, {args.clock} time, "
        f"load at the start {os.getloadavg()[0]:.1f}\n"
    )
    for name in args.only:
        sys.stdout.write(BENCHMARKS[name](args))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
