"""Time the metrics against the loops and libraries in use today.

LPIPS has its real heads over a random backbone, PWC-Net random weights: neither changes the time. piqa, torchmetrics
and pyiqa are measured where they are installed (`make bench` tries to); the LPIPS of piqa and pyiqa cannot be built
without fetching a backbone, so that of torchmetrics stands for them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from skimage import data
from skimage.metrics import structural_similarity
from torch import Tensor

from benchmarks.common import OURS, Call, Options, compare, markdown, run_measured, table
from video_vae.data.storage import write_lossless
from video_vae.metrics import DIS, LPIPS, FloLPIPS, PWCNet, psnr, ssim
from video_vae.metrics.flolpips import weighted_distance

FRAMES = 17
CLIPS = 6


def size(options: Options) -> int:
    """Return the side of a frame, in pixels."""
    return 64 if options.quick else 256


def pictures(frames: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a moving photograph and two degraded copies, (T,3,H,W) in [0,1], rounded to 8 bits."""
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    room = 512 - size
    starts = [(round(room * step / frames), round(room * (1 - step / frames))) for step in range(frames)]
    real = torch.stack([photograph[:, top : top + size, left : left + size] for top, left in starts])
    noise = torch.Generator().manual_seed(0)
    rough, fine = ((real + spread * torch.randn(real.shape, generator=noise)).clamp(0, 1) for spread in (0.03, 0.02))
    return real, (rough * 255).round() / 255, (fine * 255).round() / 255


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


def pyiqa_ssim_psnr(real: Tensor, generated: Tensor) -> Call | None:
    """Return the same by pyiqa, or None where it is not installed."""
    try:
        from pyiqa.archs import psnr_arch, ssim_arch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    metrics = ssim_arch.SSIM(test_y_channel=False), psnr_arch.PSNR(test_y_channel=False)
    return lambda: [metric(generated, real) for metric in metrics]


def torchmetrics_lpips() -> Any:
    """Return torchmetrics' net, or None where it is not installed."""
    try:
        from torchmetrics.functional.image import lpips as package  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return package._LPIPS(net="alex", pnet_rand=True, spatial=True)


def bench_ssim(options: Options) -> str:
    """Time SSIM and PSNR together."""
    real, generated, _ = pictures(FRAMES, size(options))
    rivals: dict[str, Call | None] = {
        "loop: scikit-image (float64) and numpy, a frame at a time": lambda: loop_ssim_psnr(real, generated),
        "piqa, all frames": piqa_ssim_psnr(real, generated),
        "torchmetrics, all frames": torchmetrics_ssim_psnr(real, generated),
        "pyiqa, all frames": pyiqa_ssim_psnr(real, generated),
        OURS: lambda: (ssim(real, generated), psnr(real, generated)),
    }
    seconds = compare({name: call for name, call in rivals.items() if call is not None}, options.rounds, options.clock)
    absent = [name.split(",")[0] for name, call in rivals.items() if call is None]
    note = f"\nNot installed here: {', '.join(absent)}.\n" if absent else ""
    return table("SSIM and PSNR together", seconds, "frame", FRAMES) + note


def lpips_package() -> Any:
    """Return the lpips package's net, as users of `spatial=True` have it."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False)


def bench_lpips(options: Options) -> str:
    """Time LPIPS of two variants against the same originals."""
    real, *variants = pictures(FRAMES, size(options))
    package, metric = lpips_package(), LPIPS("alex")
    metric.load_state_dict(package.state_dict())
    peer = torchmetrics_lpips()
    sides = (size(options),) * 2

    def loop() -> None:
        """Score a frame at a time."""
        for generated in variants:
            for a, b in zip(real.split(1), generated.split(1), strict=True):
                package(a * 2 - 1, b * 2 - 1).mean().item()

    def batched() -> None:
        """Score all frames at once, each variant with the originals again."""
        for generated in variants:
            package(real * 2 - 1, generated * 2 - 1).mean(dim=(1, 2, 3))

    def torchmetrics() -> None:
        """Score all frames at once by torchmetrics."""
        for generated in variants:
            peer(real * 2 - 1, generated * 2 - 1).mean(dim=(1, 2, 3))

    def ours() -> None:
        """Take the features of the originals once for both variants."""
        features = metric.features(real)
        for generated in variants:
            metric.score(metric.distances(features, metric.features(generated)), sides)

    with torch.inference_mode():
        rivals: dict[str, Call] = {
            "loop: lpips, spatial, a frame at a time": loop,
            "lpips, spatial, all frames": batched,
        }
        rivals |= {} if peer is None else {"torchmetrics, spatial, all frames": torchmetrics}
        rivals[OURS] = ours
        seconds = compare(rivals, options.rounds, options.clock)
    title = "LPIPS (AlexNet) of two variants against the same originals"
    return table(title, seconds, "frame of a variant", 2 * FRAMES)


def bench_flolpips(options: Options) -> str:
    """Time FloLPIPS per pair of frames, and its parts."""
    pairs = min(FRAMES - 1, 4)
    real, generated, _ = (frames[: pairs + 1] for frames in pictures(FRAMES, size(options)))
    lpips, pwcnet, dis = LPIPS("alex"), PWCNet(), DIS()
    with torch.inference_mode():
        distances = lpips.distances(lpips.features(real[:-1]), lpips.features(generated[:-1]))
        flows = [dis(frames[:-1], frames[1:]) for frames in (real, generated)]

        def features() -> None:
            """Take the features and distances of all pairs."""
            lpips.distances(lpips.features(real[:-1]), lpips.features(generated[:-1]))

        calls: dict[str, Call] = {
            "FloLPIPS with PWC-Net": lambda: FloLPIPS(lpips, pwcnet)(real, generated),
            "FloLPIPS with DIS": lambda: FloLPIPS(lpips, dis)(real, generated),
            "part: LPIPS features and distances, both videos": features,
            "part: PWC-Net, both videos": lambda: [pwcnet(f[:-1], f[1:]) for f in (real, generated)],
            "part: DIS, both videos": lambda: [dis(f[:-1], f[1:]) for f in (real, generated)],
            "part: weighting": lambda: weighted_distance(distances, flows[0], flows[1]),
        }
        return table(
            "FloLPIPS", compare(calls, max(2, options.rounds // 2), options.clock), "pair of frames", pairs, parts=True
        )


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
    peak, _ = run_measured(command, environment)
    seconds = json.loads((folder / "scores/run.json").read_text(encoding="utf-8"))["seconds"]
    return float(seconds), peak


def as_clip(frames: Tensor) -> np.ndarray:
    """Turn (T,3,H,W) in [0,1] into uint8 (T,H,W,3)."""
    return (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def bench_folder(options: Options) -> str:
    """Time the evaluation of a folder on one and two threads and ranks."""
    metrics = ("psnr", "ssim", "lpips", "flolpips", "flicker")
    real, generated, _ = pictures(FRAMES, size(options))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_clips(folder, CLIPS, as_clip(real), as_clip(generated))
        save_weights(folder)
        runs = {"1 thread": (1, 1), "2 threads": (2, 1), "2 ranks of 1 thread": (1, 2)}
        seconds: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(max(2, options.rounds // 2)):
            for label, (threads, ranks) in runs.items():
                seconds[label].append(evaluate(folder, threads, ranks, metrics)[0])
    title = f"`video_vae.evaluate` on a folder of {CLIPS} clips, all metrics, DIS flow (without Python's start)"
    return table(title, seconds, "frame", CLIPS * FRAMES)


def save_weights(folder: Path) -> None:
    """Write LPIPS weights as the evaluation reads them."""
    state = lpips_package().state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith(("lins", "scaling"))}, folder / "alex.safetensors")


def bench_memory(options: Options) -> str:
    """Measure the memory that a clip takes by its length."""
    metrics = ("psnr", "ssim", "lpips", "flolpips", "flicker")
    rows = []
    real, generated, _ = pictures(20, size(options))
    for frames in (20, 200, 600):
        with tempfile.TemporaryDirectory() as name:
            repeat = (frames // 20, 1, 1, 1)
            save_clips(Path(name), 1, np.tile(as_clip(real), repeat), np.tile(as_clip(generated), repeat))
            save_weights(Path(name))
            rows.append((frames, f"{evaluate(Path(name), 1, 1, metrics)[1]:.0f}"))
    return markdown("Peak memory of `video_vae.evaluate` by the length of a clip", ["frames", "MB"], rows)


BENCHMARKS: dict[str, Callable[[Options], str]] = {
    "ssim": bench_ssim,
    "lpips": bench_lpips,
    "flolpips": bench_flolpips,
    "folder": bench_folder,
    "memory": bench_memory,
}
