"""Start a module on one or many ranks: by itself, by torchrun on this machine, or by srun and torchrun on many.

    python -m video_vae.launch --nodes 1 --ranks 8 --threads 64 -m video_vae.train CONFIG --stage stage1 ...

`--ranks` counts processes per machine, one per GPU; where torch finds no GPU they compute on the CPU. More than one
machine needs a SLURM job of as many nodes. What each rank writes to stderr is shown with the rank in front. SIGTERM,
SIGHUP, SIGUSR1 and Ctrl-C (as SIGTERM) reach the ranks. A training whose time was up (status 75) puts its SLURM job in
the queue again.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from video_vae.cli import WAITING
from video_vae.distributed.cores import CORES, usable_cores
from video_vae.distributed.gpu_locks import acquire_gpus, visible_gpus
from video_vae.distributed.parent_death import children, end_with_owner
from video_vae.distributed.slurm import minutes_of
from video_vae.distributed.stopping import GOES_ON, RANK_SHOWN, Handler, Presses, tell
from video_vae.errors import TIME_UP_STATUS, UserError
from video_vae.files import temporary_folder
from video_vae.redaction import hide_secrets

PORTS = range(20_000, 60_000)
FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SAVE_SECONDS = 300
"""Ranks that were told to end have so long to save; a scheduler may be less patient."""
TIMEOUT_SECONDS = 60
"""Nodes whose partner has ended are killed after so long."""
LAST_LINES = 10
LOST_OTHERS = re.compile(r"(?i)connection (reset|closed)|remote process exited|NCCL error|socket timeout|broken pipe")
"""What ranks write that end because another one has ended."""
OWN_ERROR = re.compile(r"^(video-vae|python -m video_vae)\b|^[\w.]*(Error|Exception)\b")
"""How a line begins that tells an error."""


def torchrun_arguments(ranks: int, logs: str, arguments: Sequence[str], node: Sequence[str] = ()) -> list[str]:
    """Return the arguments of torchrun for ranks on this machine, alone or as one node of many."""
    return [
        *(node or ["--standalone", "--nnodes=1"]),
        f"--nproc_per_node={ranks}",
        "--tee=2",
        f"--log_dir={logs}",
        "--log_line_prefix_template=[rank ${rank}] ",
        "--signals_to_handle=SIGQUIT",  # the launcher's own handlers raise for the others
        f"--shutdown_timeout={SAVE_SECONDS}",
        *arguments,
    ]


def srun_command(nodes: int, ranks: str, threads: int, arguments: Sequence[str]) -> list[str]:
    """Return the command that starts this launcher once on each node of a SLURM job.

    Raises:
        UserError: outside a SLURM job.
    """
    if not os.environ.get("SLURM_JOB_ID", "").isdigit():
        raise UserError(
            f"{nodes} nodes need a SLURM job; run with --profile slurm, or set the rule's resources to nodes=1"
        )
    # Steps have one CPU a task where nothing is said.
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
    launcher = [sys.executable, "-m", "video_vae.launch", "--node-of", str(nodes)]
    # After the first node has ended the others are waited for: their status matters, and a hanging one must not stay.
    return [*step, f"--wait={TIMEOUT_SECONDS}", *launcher, "--ranks", ranks, "--threads", str(threads), *arguments]


def node_arguments(nodes: int) -> list[str]:
    """Return torchrun's arguments for one node of many: all meet at the node that started the step, which is the first.

    Raises:
        UserError: outside a SLURM step.
    """
    try:
        address, node, job = (os.environ[f"SLURM_{name}"] for name in ("LAUNCH_NODE_IPADDR", "NODEID", "JOB_ID"))
    except KeyError as error:
        raise UserError(f"--node-of needs {error.args[0]}, which srun sets; start it by --nodes") from None
    if address.startswith("127."):  # all nodes on one machine: gloo must not look for another network
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    port = PORTS[int(job) % len(PORTS)]
    return [f"--nnodes={nodes}", f"--node_rank={node}", f"--master_addr={address}", f"--master_port={port}"]


def counted_ranks(ranks: str) -> int:
    """Turn `--ranks` into a number of processes: `auto` is one per visible GPU, and one where there is none.

    Raises:
        UserError: if there are GPUs, but too few.
    """
    if ranks == "1":
        return 1
    gpus = len(visible_gpus())
    if ranks == "auto":
        return max(1, gpus)
    if 0 < gpus < int(ranks) and _cuda_works():
        raise UserError(f"{ranks} ranks, but {gpus} GPUs are visible; set the rule's `ranks` to its GPUs per node")
    return int(ranks)


def _cuda_works() -> bool:
    import torch

    return torch.cuda.is_available()


def run_ranks(ranks: int, arguments: Sequence[str], node: Sequence[str] = ()) -> int:
    """Run torchrun in this process and return the exit status, with the last lines of the rank that failed first."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    with temporary_folder("video-vae-ranks-") as logs:
        options = torchrun_arguments(ranks, str(logs), arguments, node)
        _say(f"{_place(ranks)}: {shlex.join(['torchrun', *options])}")
        os.environ[RANK_SHOWN] = "1"
        asked = _hand_on_by(SignalException)
        try:
            torchrun.run(torchrun.parse_args(options))
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            status = int(failure.exitcode)
            if not _saved(ranks, logs):
                _tell(rank, status, rank - failure.local_rank, ranks, logs)
            return status if status > 0 else 128 - status
        except SignalException as error:
            number = asked[0] if asked else error.sigval
            if not _saved(ranks, logs):
                _say(f"ended by {signal.Signals(number).name}")
            return 128 + number
    return 0


def _saved(ranks: int, logs: Path) -> bool:
    """Tell whether a rank said as its last word that it was asked to end and goes on where it stopped."""
    return any(lines[-1].endswith(GOES_ON) for rank in range(ranks) if (lines := _last_lines(logs, rank)))


def _hand_on_by(error: Callable[[str, signal.Signals], BaseException]) -> list[int]:
    """Make signals raise torchrun's exception, once, by which it hands them on; return the list of what came.

    Ctrl-C is handed on as SIGTERM, since the ranks have it from the terminal; a second one ends them at once.
    """
    asked: list[int] = []
    presses = Presses()

    def hand_on(number: int, frame: FrameType | None) -> None:
        """Hand on the signal."""
        if presses.again(number):
            tell(children(os.getpid()), signal.SIGINT)
        asked.append(number)
        if len(asked) == 1:
            given = signal.SIGTERM if number == signal.SIGINT else signal.Signals(number)
            raise error(f"got {given.name}", given)

    _listen(hand_on)
    return asked


def _listen(handler: Handler) -> None:
    """Take the signals that are handed on, but those that this process was started to ignore."""
    for name in FORWARDED:
        if signal.getsignal(signal.Signals[name]) is not signal.SIG_IGN:
            signal.signal(signal.Signals[name], handler)


def _place(ranks: int) -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "not restricted")
    threads = os.environ.get("OMP_NUM_THREADS", "?")
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    return f"{host}: {ranks} ranks of {threads} threads, GPUs {gpus or 'none'}"


def _tell(rank: int, status: int, first: int, ranks: int, logs: Path) -> None:
    """Show how a rank ended that was seen to fail first; where it only lost another one, show the one that says why."""
    heading, lines = _ending(rank, status), _last_lines(logs, rank - first)
    if status in (1, 2, -signal.SIGABRT) and any(map(LOST_OTHERS.search, lines)):
        heading = f"rank {rank} lost another rank; its last lines:"
        for local in range(ranks):
            told = _last_lines(logs, local)
            if any(OWN_ERROR.search(line) and not LOST_OTHERS.search(line) for line in told):
                rank, lines = first + local, told
                heading = f"rank {rank} ended; its last lines:"
                break
    for line in (heading, *(f"[rank {rank}] {line}" for line in lines)):
        _say(line)


def _ending(rank: int, status: int) -> str:
    if status == TIME_UP_STATUS:
        return "the time was up and the state is saved"
    if status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
        hint = " (out of memory, or killed by somebody)" if status == -signal.SIGKILL else ""
        return f"rank {rank} {how}{hint}; its last lines:"
    return f"rank {rank} ended with status {status}; its last lines:"


def _last_lines(logs: Path, local_rank: int) -> list[str]:
    files = sorted(logs.glob(f"*/attempt_*/{local_rank}/stderr.log"))
    if not files:
        return []
    return files[-1].read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]


def run_step(command: Sequence[str]) -> int:
    """Run a command, forward the signals that this process gets, and return the exit status."""
    _say(shlex.join(command))
    process = subprocess.Popen(list(command))
    presses = Presses()

    def hand_on(number: int, frame: FrameType | None) -> None:
        """Send the signal to the command; Ctrl-C, which it has from the terminal, as SIGTERM, and again as itself."""
        again = presses.again(number)
        process.send_signal(signal.SIGTERM if number == signal.SIGINT and not again else number)

    _listen(hand_on)
    status = process.wait()
    return status if status >= 0 else 128 - status


def requeued(status: int) -> int:
    """Put this SLURM job in the queue again where its time was up; return the status where that cannot be.

    The job keeps its number, so that Snakemake waits for it and uses no retry.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if status != TIME_UP_STATUS or not job:
        return status
    try:
        result = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        complaint = result.stderr.strip() if result.returncode else ""
    except OSError as error:
        complaint = str(error)
    if complaint:
        _say(f"job {job} cannot be put in the queue again ({complaint}); a retry goes on where this one stopped")
        return status
    _say(f"job {job} goes back into the queue and goes on where it stopped")
    time.sleep(SAVE_SECONDS)  # SLURM ends this process before; ending by itself would count as a failure
    return status


def with_deadline(arguments: Sequence[str], wall_minutes: float) -> list[str]:
    """Add `--end-by` that ends a training before its job's wall time: a tenth, at most 10 minutes, is for saving."""
    if not wall_minutes:
        return list(arguments)
    left = minutes_left(wall_minutes)
    return [*arguments, "--end-by", f"{time.time() + 60 * (left - min(10.0, left / 10)):.0f}"]


def minutes_left(wall_minutes: float) -> float:
    """Return the minutes that SLURM still gives to this job; outside of one, or where it does not say, all of them.

    Starting takes some of them, and an administrator may have changed them.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job or shutil.which("squeue") is None:
        return wall_minutes
    asked = ["squeue", "--noheader", "--format=%L", f"--jobs={job}"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    left = minutes_of(told)
    return wall_minutes if left is None else left


def _say(text: str) -> None:
    sys.stderr.write(f"{hide_secrets(text)}\n")
    sys.stderr.flush()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m video_vae.launch", usage="%(prog)s [options] -m MODULE ...")
    parser.add_argument("--nodes", type=int, default=1, help="number of machines [1]")
    parser.add_argument("--ranks", default="1", help="processes per machine; auto: one for each GPU [1]")
    parser.add_argument("--threads", type=int, default=0, help="CPU cores per machine, shared by its ranks [all]")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to keep from other jobs, without a scheduler [0]")
    parser.add_argument("--wall-minutes", type=int, default=0, help="end a training before so many minutes [no limit]")
    parser.add_argument("--node-of", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.ranks != "auto" and not (args.ranks.isdigit() and int(args.ranks)):
        parser.error(f"--ranks {args.ranks}: give a number or auto")
    return args


def _claim_gpus(wanted: int) -> None:
    """Restrict this job to GPUs of its own, where SLURM does not do so."""
    if not wanted or os.environ.get("SLURM_JOB_ID"):
        return
    gpus = visible_gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(acquire_gpus(wanted, gpus))


def _share_threads(threads: int, ranks: int) -> None:
    """Give each rank its part of the cores; torchrun would give it one."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = str(max(1, (threads or usable_cores()) // ranks))
    os.environ[CORES] = share
    if threads or not given:
        os.environ["OMP_NUM_THREADS"] = share


def _launch(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    arguments = with_deadline(arguments, args.wall_minutes)
    threads = args.threads or usable_cores()
    if args.nodes > 1:
        return requeued(run_step(srun_command(args.nodes, args.ranks, threads, arguments)))
    _claim_gpus(args.gpus)
    ranks = counted_ranks(args.ranks)
    _share_threads(args.threads, ranks)
    if args.node_of:
        return run_ranks(ranks, arguments, node_arguments(args.node_of))
    if ranks > 1:
        return requeued(run_ranks(ranks, arguments))
    command = [sys.executable, *arguments]
    if args.wall_minutes:
        return requeued(run_step(command))
    _say(shlex.join(["python", *arguments]))
    return os.execv(command[0], command)  # noqa: S606 (no shell: the arguments are a list)


def main(argv: Sequence[str] | None = None) -> int:
    """Show the command and run it; return the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault(*WAITING)
    end_with_owner()
    start = given.index("-m") if "-m" in given else len(given)
    try:
        return _launch(_parse(given[:start]), given[start:])
    except UserError as error:
        _say(f"video_vae.launch: {error}")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
