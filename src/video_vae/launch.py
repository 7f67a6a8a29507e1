"""Start a module on one or many ranks: torchrun on this machine, or srun and torchrun over a job's nodes.

    python -m video_vae.launch --nodes 1 --ranks 8 -m video_vae.train CONFIG --stage stage1 ...

`--ranks` counts processes a node. More than one node needs a SLURM allocation of that many nodes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from video_vae.errors import UserError

PORTS = range(20_000, 60_000)


def torchrun_arguments(ranks: int, arguments: Sequence[str]) -> list[str]:
    """Return the arguments of torchrun for ranks on this machine."""
    return ["--standalone", "--nnodes=1", f"--nproc_per_node={ranks}", *arguments]


def srun_command(nodes: int, ranks: int, arguments: Sequence[str]) -> list[str]:
    """Return the command for a torchrun on each node of a SLURM job, which meet at the first one.

    Raises:
        UserError: outside a SLURM job.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        raise UserError(
            f"{nodes} nodes need a SLURM job; run with --profile slurm, or set the rule's resources to nodes=1"
        )
    port = PORTS[int(job) % len(PORTS)]
    # These variables are known on the nodes only: the step that Snakemake runs in does not have them all.
    endpoint = f'--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$SLURM_LAUNCH_NODE_IPADDR:{port}"'
    torchrun = f"exec {shlex.quote(sys.executable)} -m torch.distributed.run --nnodes={nodes} --nproc_per_node={ranks}"
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    return [*step, "bash", "-c", f"{torchrun} {endpoint} {shlex.join(arguments)}"]


def run_here(ranks: int, arguments: Sequence[str]) -> int:
    """Be torchrun on this machine and return the exit status, without torchrun's own traceback for a failed rank."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        torchrun.run(torchrun.parse_args(torchrun_arguments(ranks, arguments)))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        _say(f"rank {rank} of {ranks} ended with status {failure.exitcode}; what it said stands above")
        return int(failure.exitcode) if failure.exitcode > 0 else 128 - int(failure.exitcode)
    except SignalException as error:
        _say(f"ended by {error.sigval.name}")
        return 128 + int(error.sigval)
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m video_vae.launch", usage="%(prog)s [options] -m MODULE ...")
    parser.add_argument("--nodes", type=int, default=1, help="number of machines [1]")
    parser.add_argument("--ranks", type=int, default=1, help="processes a machine, one for each GPU [1]")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Show the command and run it; return the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    start = given.index("-m") if "-m" in given else len(given)
    args, arguments = _parse(given[:start]), given[start:]
    if args.nodes == 1:
        _say(shlex.join(["torchrun", *torchrun_arguments(args.ranks, arguments)]))
        return run_here(args.ranks, arguments)
    try:
        command = srun_command(args.nodes, args.ranks, arguments)
    except UserError as error:
        _say(f"video_vae.launch: {error}")
        return 2
    _say(shlex.join(command))
    return os.execvp(command[0], command)  # noqa: S606 (no shell: the arguments are a list)


if __name__ == "__main__":
    raise SystemExit(main())
