"""Run many Snakemake commands, importing it once: a JSON list of argument lists in, a list of [status, output] out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor

from snakemake.cli import main


def planned(arguments: list[str]) -> tuple[int, str]:
    """Run one command in a process of its own, as if typed; return its exit status and what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            _run(arguments)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        json.dump(list(pool.map(planned, asked)), sys.stdout)
