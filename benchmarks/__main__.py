"""Run benchmarks and print their tables.

    python -m benchmarks [NAME ...] [--quick] [--rounds N] [--publish]

With --publish each table also replaces its section of benchmarks/README.md, with the machine that it ran on.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks import borders, long_video, metrics, step, temporal, windows
from benchmarks.common import ROOT, Options, machine

README = ROOT / "benchmarks" / "README.md"
BENCHMARKS: dict[str, Callable[[Options], str]] = {
    "temporal-8x8": partial(temporal.run, side=8),
    "temporal-32x32": partial(temporal.run, side=temporal.LARGE),
    "step": step.run_step,
    "step-memory": step.run_memory,
    "windows": windows.run,
    "long-video": long_video.run,
    "chunks": borders.run_chunks,
    "tiles": borders.run_tiles,
    **metrics.BENCHMARKS,
}


def publish(name: str, text: str) -> None:
    """Replace a benchmark's section of the README.

    Raises:
        ValueError: if the README has no such section.
    """
    old = README.read_text(encoding="utf-8")
    section = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    new, count = section.subn(lambda found: f"{found[1]}{text}\n{found[2]}", old)
    if count != 1:
        raise ValueError(f"{README} has {count} sections named {name}")
    README.write_text(new, encoding="utf-8")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(BENCHMARKS)} [all]")
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="rounds that count [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that they run")
    clock_help = "wall, or cpu on a machine that is busy otherwise, with OMP_NUM_THREADS=1 [wall]"
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=clock_help)
    parser.add_argument("--publish", action="store_true", help="keep the tables in benchmarks/README.md")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if args.publish and args.quick:
        parser.error("figures of --quick mean nothing: publish without it")
    options = Options(rounds=args.rounds, quick=args.quick, clock=args.clock)
    for name in args.names or BENCHMARKS:
        where, start = machine(), time.perf_counter()
        text = BENCHMARKS[name](options)
        today = datetime.datetime.now(datetime.UTC).date()
        text += f"\n{today}, {where}; took {time.perf_counter() - start:.0f} s.\n"
        sys.stdout.write(text)
        sys.stdout.flush()
        if args.publish:
            publish(name, text)


if __name__ == "__main__":
    main()
