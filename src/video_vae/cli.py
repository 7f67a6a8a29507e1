"""One subcommand for each job of the workflow; every one of them works without Snakemake.

A subcommand's module is imported only when it is chosen. Each module defines ``add_arguments(parser)`` and
``run(args)``, and imports what takes time (torch, av, pandas) in ``run``, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from video_vae import __version__
from video_vae.commands import COMMANDS, command_parser, top_parser
from video_vae.distributed.parent_death import end_with_owner
from video_vae.distributed.stopping import GOES_ON, RANK_SHOWN, Stopped, ending_when_asked
from video_vae.errors import UserError
from video_vae.files import unwritable
from video_vae.redaction import HidingFormatter, hide_secrets

CRASH_STATUS = 1
USAGE_STATUS = 2
DISK_STATUS = 74
"""What a command ends with where a disk is full or takes no files (EX_IOERR)."""
PIPE_STATUS = 128 + signal.SIGPIPE
WAITING = ("OMP_WAIT_POLICY", "PASSIVE")
"""Threads that wait sleep instead of spinning: the same speed on free cores, 3 to 4 times faster on busy ones."""
HERE = Path(__file__).resolve().parent
FRAMES_SHOWN = 3
"""Places in the code that an unexpected error names, the innermost first."""
EXTRAS = {
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    **dict.fromkeys(("nbclient", "nbformat", "snakemake"), "workflow"),
}
"""Packages that another extra than `train` installs."""
GOING_ON = {"manifest", "encode-latents", "train", "train-spatial", "reconstruct", "encode", "decode"}
"""Commands that go on with what an interrupted run finished."""
MAX_SAID = 400
"""Characters of an unexpected error's text that are shown."""


def _log_to_stderr() -> None:
    """Send the log to stderr: all of it on the first rank, warnings on the others."""
    rank = os.environ.get("RANK", "0")
    handler = logging.StreamHandler()
    prefix = "" if rank == "0" or RANK_SHOWN in os.environ else f"[rank {rank}] "
    handler.setFormatter(HidingFormatter(f"{prefix}%(message)s"))
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
    except BrokenPipeError:
        # The reader went away (`| head`): say nothing, and keep the interpreter from flushing to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_STATUS
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        status, text = _explained(error, name)
        many = int(os.environ.get("WORLD_SIZE", "1")) > 1 and RANK_SHOWN not in os.environ
        if isinstance(error, KeyboardInterrupt) and os.environ.get("RANK", "0") != "0":
            return status  # all ranks are asked, one says so
        rank = f"[rank {os.environ['RANK']}] " if many else ""
        sys.stderr.write(f"{rank}video-vae {name}: {hide_secrets(text)}\n")
        return status
    return 0


def _explained(error: BaseException, name: str) -> tuple[int, str]:
    """Return the exit status of an error of a command, and one line on it."""
    if isinstance(error, UserError):
        return USAGE_STATUS, str(error)
    if isinstance(error, KeyboardInterrupt):
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        going_on = name in GOING_ON and stopped.keeps_work
        return 128 + stopped.number, f"{stopped}; {GOES_ON}" if going_on else str(stopped)
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) != __package__:
        how = f"pip install 'video-vae[{EXTRAS.get(name, 'train')}]', or `make env` in a checkout"
        return USAGE_STATUS, f"this command needs the package {name}; {how}"
    refused = unwritable(error) if isinstance(error, OSError) else None
    if refused is not None:
        return DISK_STATUS, refused
    said = " ".join(str(error).split())[:MAX_SAID]
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(HERE)]
    inner = [f"{Path(frame.filename).relative_to(HERE)}:{frame.lineno}" for frame in reversed(ours)]
    where = f" (at {' < '.join(inner[:FRAMES_SHOWN])})" if inner else ""
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return CRASH_STATUS, f"{what}{where}; run again with --debug for the traceback"


def run_command(name: str, arguments: Sequence[str], prog: str, debug: bool = False) -> int:
    """Import a subcommand's module, parse its arguments and run it; return the exit status."""

    def action() -> None:
        """Import, parse, run."""
        os.environ.setdefault(*WAITING)  # before torch is loaded
        module = importlib.import_module(COMMANDS[name].module)
        _run_module(module, arguments, prog, COMMANDS[name].example)

    return _guarded(name, action, debug or "--debug" in arguments)


def run_tool(module: ModuleType, prog: str, example: str, argv: Sequence[str] | None = None) -> int:
    """Run a module that is no subcommand, such as a generator of files in the checkout, by the same rules."""
    arguments = sys.argv[1:] if argv is None else argv
    return _guarded(prog, lambda: _run_module(module, arguments, prog, example), "--debug" in arguments)


def _run_module(module: ModuleType, arguments: Sequence[str], prog: str, example: str) -> None:
    args = command_parser(module, prog, example).parse_args(arguments)
    _log_to_stderr()
    with ending_when_asked():
        end_with_owner()
        module.run(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `video-vae COMMAND ...`; return the exit status."""
    args = argparse.Namespace()

    given = sys.argv[1:] if argv is None else argv

    def parse() -> None:
        """Fill in the arguments, or print the help and leave."""
        parser = top_parser(__version__)
        if not given:
            parser.print_help(sys.stderr)
            raise SystemExit(USAGE_STATUS)
        parser.parse_args(given, args)

    return _guarded("", parse, debug=False) or run_command(
        args.command, args.arguments, f"video-vae {args.command}", args.debug
    )


def main_for(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one subcommand as `python -m MODULE ...`; return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command(name, arguments, f"python -m {COMMANDS[name].module}")
