"""Train one stage of the video VAE, on one rank or, under torchrun, on many.

    torchrun --standalone --nproc_per_node=8 -m video_vae.train CONFIG --stage stage1 --data-path CSV --output DIR

The same command goes on where a killed one was stopped: the state lies in STATE/<stage>/<fingerprint>, and the
fingerprint stands for everything that shapes the weights. Ctrl-C, a closed terminal, SIGTERM and SIGUSR1 save the state
at the end of the step and end with status 128 + signal, a second Ctrl-C ends at once; --max-hours and --end-by save in
time, with status 75. OUTPUT is written last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from video_vae.cli import main_for
from video_vae.config import STAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.add_argument("config", metavar="CONFIG", help="settings: YAML or JSON file, or JSON text")
    parser.add_argument("--stage", required=True, choices=STAGES, help="what to train")
    parser.add_argument("--data-path", required=True, type=Path, metavar="CSV", help="table of training clips")
    parser.add_argument("--valid-path", type=Path, metavar="CSV", help="table of held-out clips")
    parser.add_argument("--latents", nargs="*", default=[], type=Path, metavar="FILE", help="the latent cache's files")
    parser.add_argument("--prepared", nargs="*", default=[], type=Path, metavar="FILE", help="shards of prepared clips")
    parser.add_argument("--spatial", type=Path, metavar="DIR", help="spatial VAE, in place of the config's")
    parser.add_argument("--lpips", type=Path, metavar="DIR", help="weights of LPIPS [as evaluate]")
    parser.add_argument("--init-from", type=Path, metavar="DIR", help="model to start from: an earlier stage's")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="model, run.json and log.jsonl go here"
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="resume states go here [state beside OUTPUT]")
    parser.add_argument("--experiment", metavar="NAME", help="run of the config's `experiments` to train")
    help_profile = "write a torch profiler trace of so many steps beside the resume states [none]"
    parser.add_argument("--profile", type=int, default=0, metavar="STEPS", help=help_profile)
    parser.add_argument("--max-hours", type=float, metavar="H", help="save and end before so many hours have gone")
    parser.add_argument(
        "--end-by",
        type=float,
        metavar="SECONDS",
        help="save and end before this time (since 1970; the launcher sets it)",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute [auto]")


def run(args: argparse.Namespace) -> None:
    """Train the stage, or go on with it, and write its outputs.

    Raises:
        SystemExit: with the status that says why, where the training is not done yet.
    """
    from video_vae.training import one_stage

    one_stage.run(args)


if __name__ == "__main__":
    raise SystemExit(main_for("train"))
