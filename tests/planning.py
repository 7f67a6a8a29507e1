"""Run many Snakemake commands, importing it once: a JSON list of argument lists in, a list of [status, output] out."""

from __future__ import annotations

import json
import os
import sys
import tempfile

from snakemake.cli import main


def planned(arguments: list[str]) -> tuple[int, str]:
    """Run one command in a process of its own, as if typed; return its exit status and what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = ["snakemake", *arguments]
            main(arguments)
            os._exit(os.EX_SOFTWARE)  # main leaves by SystemExit: this place is not reached
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


if __name__ == "__main__":
    json.dump([planned(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
