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


def torchrun_command(ranks: int, arguments: Sequence[str]) -> list[str]:
    """Return the command for ranks on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1"]
    return [*launcher, f"--nproc_per_node={ranks}", *arguments]


def srun_command(nodes: int, ranks: int, arguments: Sequence[str]) -> list[str]:
    """Return the command for a torchrun on each node of a SLURM job, which meet at the first one."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise UserError(
            f"{nodes} nodes need a SLURM job; run with --profile slurm, or set the rule's resources to nodes=1"
        )
    port = PORTS[int(job) % len(PORTS)]
    # These variables are known on the nodes only: the step that Snakemake runs in does not have them all.
    endpoint = f'--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$SLURM_LAUNCH_NODE_IPADDR:{port}"'
    torchrun = f"exec {shlex.quote(sys.executable)} -m torch.distributed.run --nnodes={nodes} --nproc_per_node={ranks}"
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    return [*step, "bash", "-c", f"{torchrun} {endpoint} {shlex.join(arguments)}"]


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m video_vae.launch", usage="%(prog)s [options] -m MODULE ...")
    parser.add_argument("--nodes", type=int, default=1, help="number of machines [1]")
    parser.add_argument("--ranks", type=int, default=1, help="processes a machine, one for each GPU [1]")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Show the launcher's command and become it; return only where there is none."""
    given = list(sys.argv[1:] if argv is None else argv)
    start = given.index("-m") if "-m" in given else len(given)
    args, arguments = _parse(given[:start]), given[start:]
    try:
        if args.nodes > 1:
            command = srun_command(args.nodes, args.ranks, arguments)
        else:
            command = torchrun_command(args.ranks, arguments)
    except UserError as error:
        sys.stderr.write(f"video_vae.launch: {error}\n")
        return 2
    sys.stderr.write(f"{shlex.join(command)}\n")
    sys.stderr.flush()
    return os.execvp(command[0], command)  # noqa: S606 (no shell: the arguments are a list)


if __name__ == "__main__":
    raise SystemExit(main())
