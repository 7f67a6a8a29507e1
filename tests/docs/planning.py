"""Run many Snakemake commands, importing it once: a JSON list of argument lists in, a list of [status, output] out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import IO

from snakemake.cli import main


def start(arguments: list[str]) -> tuple[int, IO[str]]:
    """Run one command in a process of its own, as if typed; return its process id and the file of what it prints."""
    output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (read by who waits for the process)
    child = os.fork()
    if child == 0:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        _run(arguments)
    return child, output


def plan_all(asked: list[list[str]]) -> list[tuple[int, str]]:
    """Run all commands, as many at a time as there are cores; return exit status and output of each.

    In one thread: a process that is forked while another thread holds a lock waits for that lock forever.
    """
    found: dict[int, tuple[int, str]] = {}
    running: dict[int, tuple[int, IO[str]]] = {}
    for number, arguments in enumerate(asked):
        if len(running) == (os.cpu_count() or 1):
            _collect(running, found)
        child, output = start(arguments)
        running[child] = number, output
    while running:
        _collect(running, found)
    return [found[number] for number in range(len(asked))]


def _collect(running: dict[int, tuple[int, IO[str]]], found: dict[int, tuple[int, str]]) -> None:
    """Wait for one of the running commands."""
    child, status = os.wait()
    number, output = running.pop(child)
    with output:
        output.seek(0)
        found[number] = os.waitstatus_to_exitcode(status), output.read()


def _run(arguments: list[str]) -> None:
    """Run a command and leave, without what the parent would do at its end."""
    status: object = os.EX_SOFTWARE
    try:
        sys.argv = ["snakemake", *arguments]
        main(arguments)
    except SystemExit as done:
        status = done.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(plan_all(asked), sys.stdout)
