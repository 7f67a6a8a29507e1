"""Run benchmarks and print their tables.

    python -m benchmarks [NAME ...] [--quick] [--rounds N] [--publish]

With --publish each table also replaces its section of benchmarks/README.md or docs/scale.md, with the machine that it
ran on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from benchmarks import (
    borders,
    checkpoint,
    coverage,
    crops,
    encode,
    loading,
    long_video,
    metrics,
    prepare,
    scale_data,
    scale_ranks,
    scale_results,
    sequential,
    step,
    temporal,
    windows,
)
from benchmarks.common import Options, machine, show

BENCHMARKS: dict[str, Callable[[Options], str]] = {
    "temporal-8x8": partial(temporal.run, side=8),
    "temporal-32x32": partial(temporal.run, side=temporal.LARGE),
    "step": step.run_step,
    "step-memory": step.run_memory,
    "windows": windows.run,
    "sequential": sequential.run,
    "loading": loading.run,
    "prepare": prepare.run,
    "long-video": long_video.run,
    "checkpoint": checkpoint.run,
    "encode": encode.run,
    "chunks": borders.run_chunks,
    "tiles": borders.run_tiles,
    "crops": crops.run,
    **metrics.BENCHMARKS,
    "coverage": coverage.run,
    "scale-manifest": scale_data.run_manifest,
    "scale-tables": scale_data.run_tables,
    "scale-latents": scale_data.run_latents,
    "scale-graph": scale_results.run_graph,
    "scale-ranks": scale_ranks.run,
    "scale-evaluation": scale_results.run_evaluation,
    "scale-report": scale_results.run_report,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(BENCHMARKS)} [all]")
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="rounds that count [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that they run")
    clock_help = "wall, or cpu on a machine that is busy otherwise, with OMP_NUM_THREADS=1 [wall]"
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=clock_help)
    parser.add_argument("--publish", action="store_true", help="keep the tables in benchmarks/README.md, docs/scale.md")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if args.publish and args.quick:
        parser.error("figures of --quick mean nothing: publish without it")
    options = Options(rounds=args.rounds, quick=args.quick, clock=args.clock)
    for name in args.names or BENCHMARKS:
        show(name, partial(BENCHMARKS[name], options), machine(), args.publish)


if __name__ == "__main__":
    main()
