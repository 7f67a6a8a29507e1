"""Score generated clips against the originals of the same name: PSNR, SSIM, LPIPS, FloLPIPS, VMAF and others.

Files pair by name, whatever their ending. Several generated folders may be given; what concerns the originals is then
computed once. Clips may be lossless files of this package, any video, or images. Under torchrun the ranks split the
clips. A subfolder of images is a clip too, its frames in the order of the numbers in their names. Where a clip and its
original differ in length, the first frames that both have are scored, with a warning; where they differ in size, the
clip is refused. Every option may be written with dashes or underscores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from video_vae.cli import main_for
from video_vae.config import Checked, Metric

DEFAULT_METRICS = ("psnr", "ssim", "lpips", "flolpips", "flicker")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `evaluate`."""

    def add(name: str, help: str, **options: Any) -> None:
        """Declare an option under both spellings, --real_video_dir and --real-video-dir."""
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        parser.add_argument(*spellings, dest=name, help=help, **options)

    add("real_video_dir", "folder of the originals", type=Path, required=True, metavar="DIR")
    generated = {"type": Path, "required": True, "metavar": "DIR", "nargs": "+", "action": "extend"}
    add("generated_video_dir", "folder of generated clips; several may be given", **generated)
    variants = "names of the generated folders in the results [what follows the last _]"
    add("variant", variants, nargs="+", action="extend", metavar="NAME")
    add("metric", "metrics to compute", nargs="+", choices=get_args(Metric), default=list(DEFAULT_METRICS))
    add("resolution", "resize the shorter side to this, in pixels [as it is]", type=_positive)
    add("crop_size", "then crop a square of this side out of the centre [none]", type=_positive)
    add("num_frames", "score at most this many frames; shorter clips at their length [all]", type=_positive)
    add("sample_rate", "take every n-th frame [1]", type=_positive, default=1)
    add("sample_fps", "frame rate to record in the summary [the clips' own]", type=_rate)
    add("batch_size", "work on as many pixels at once as N x 8 frames of 256x256 have [2]", type=_positive, default=2)
    add("device", "auto, cpu or cuda [auto]", default="auto")
    add("lpips", "folder with the LPIPS weights [resources/lpips, else fetched into the user's cache]", type=Path)
    flows = ("auto", "pwcnet", "raft", "dis")
    add("flow", "optical flow of flolpips, warping_error and tof [auto]", choices=flows, default="auto")
    add("flow_weights", "its weights: a file, or an address with --flow_sha256")
    add("flow_sha256", "hash that the flow weights must have")
    add("fvd_weights", "TorchScript file of rFVD's feature net; rFVD is computed only where one is given")
    add("fvd_sha256", "hash that it must have")
    add("fvd_frames", "frames of a sample of rFVD, at least 9 [16]", type=_positive, default=16)
    add("under", "protocol that the clips were made by, as the results are to state it", metavar="TEXT")
    add("clips", "score only the clips that these tables list under clip_id", type=Path, nargs="+", metavar="CSV")
    add("bootstrap", "resamples of the bootstrap's intervals in the summary [1000]", type=_positive, default=1000)
    add("seed", "seed of the resamples [0]", type=int, default=0)
    add("strict", "fail if any clip lacks a partner, differs in length or is refused", action="store_true")
    checked = "score a sample of frames again by scikit-image and lpips, and fail where they differ [psnr ssim]"
    add("check", checked, nargs="*", choices=get_args(Checked), metavar="METRIC")
    add("output", "write the summary here (JSON)", type=Path)
    add("output_dir", "write frames.parquet, clips.csv, summary.json and run.json here", type=Path)


def run(args: argparse.Namespace) -> None:
    """Score this rank's clips; the first rank gathers, summarizes and writes."""
    from video_vae.metrics import clip_folders

    clip_folders.run(args)


if __name__ == "__main__":
    raise SystemExit(main_for("evaluate"))
