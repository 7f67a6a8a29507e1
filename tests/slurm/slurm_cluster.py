"""A real SLURM cluster on one machine: Debian's SLURM, a slurmd for each node, fake GPUs, in namespaces of its own.

The mount namespace has its own /etc/slurm, the network namespace only a loopback, and all processes end with the first
one: no other SLURM can be touched, nothing is left running, and several clusters can stand side by side.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
GPUS = 8
CPUS = 32
MEMORY_MB = 64_000
NULL_DEVICE = os.makedev(1, 3)
START_SECONDS = 90
INSTALL_SECONDS = 140

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=6817
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
ReturnToService=1
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
DefMemPerCPU=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
MinJobAge=900
MessageTimeout=60
PropagateResourceLimits=NONE
{accounting}
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=24:00:00 PriorityTier=10 State=UP
PartitionName=low Nodes=ALL MaxTime=24:00:00 PriorityTier=1 PreemptMode=REQUEUE State=UP
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=6819
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
"""
DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort=6819
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""


def why_not(packages: tuple[str, ...] = PACKAGES) -> str:
    """Install what is missing; return why no cluster can be brought up here, or nothing where it can."""
    if os.getuid() != 0:
        return "a test cluster needs root: it starts SLURM's daemons in namespaces of its own"
    if not all(map(shutil.which, ("unshare", "nsenter", "dpkg-query"))):
        return "a test cluster needs Debian's packages, unshare and nsenter"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, check=False)
    if probe.returncode:
        return f"namespaces are not allowed here ({probe.stderr.decode().strip()})"
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return ""
    if (Path("/etc/slurm/slurm.conf").exists() or shutil.which("sinfo")) and not _installed("slurm-client"):
        return "another SLURM is installed here: nothing is put beside it"
    return _install(missing)


def _installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def _install(packages: list[str]) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "--yes", "--no-install-recommends", *packages]
    for command in (["update"], install):
        asked = ["timeout", str(INSTALL_SECONDS), "apt-get", "-qq", *command]
        result = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            told = result.stderr.strip()[-300:] or f"no end after {INSTALL_SECONDS} s"
            return f"Debian's packages {', '.join(packages)} cannot be installed: {told}"
    return ""


class Cluster:
    """Nodes node1, node2, ... with fake GPUs; partition `gpu`, and `low`, whose jobs `gpu`'s preempt and requeue."""

    def __init__(self, nodes: int = 4, accounting: bool = False) -> None:
        self.nodes, self.accounting = [f"node{number}" for number in range(1, nodes + 1)], accounting
        # Short, since sockets lie in it, and open, since daemons check it.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._first: subprocess.Popen[str] | None = None

    def __enter__(self) -> Cluster:
        try:
            self._write_config()
            self._open_namespaces()
            self._start_munge()
            if self.accounting:
                self._start_accounting()
            self._start("/usr/sbin/slurmctld", "-i")
            for node in self.nodes:
                self._start("/usr/sbin/slurmd", "-N", node)
            self._wait_until("all nodes are idle", self._all_idle)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of the cluster and remove its files."""
        if self._first is not None:
            self._first.communicate(timeout=60)  # closes its input
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *arguments: str, folder: Path | str = "/") -> list[str]:
        """Return a command that runs inside the cluster, in a folder."""
        assert self._first is not None
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text(encoding="utf-8").split()
        enter = ["nsenter", f"--target={children[0]}", "--mount", "--pid", "--net"]
        return [*enter, "env", f"--chdir={folder}", *arguments]

    def popen(self, *arguments: str, folder: Path | str = "/", **options: Any) -> subprocess.Popen[str]:
        """Start a command inside the cluster."""
        return subprocess.Popen(self.command(*arguments, folder=folder), env=_environment(), text=True, **options)

    def run(self, *arguments: str, folder: Path | str = "/", check: bool = True) -> str:
        """Run a command inside the cluster; return what it prints."""
        result = subprocess.run(
            self.command(*arguments, folder=folder), env=_environment(), capture_output=True, text=True, check=False
        )
        assert not check or result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    def jobs(self, state: str = "RUNNING") -> list[str]:
        """List the numbers of the jobs in a state, as squeue names them."""
        return self.run("squeue", "--noheader", "--sort=i", "--format=%i", f"--states={state}").split()

    def restarts_of(self, job: str) -> int:
        """Return how often a job went back into the queue."""
        (restarts,) = re.findall(r"Restarts=(\d+)", self.run("scontrol", "show", "job", job))
        return int(restarts)

    def node_of(self, job: str) -> str:
        """Name the first node of a job."""
        return self.run("squeue", "--noheader", "--format=%B", f"--jobs={job}").strip()

    def logs(self) -> str:
        """Return the ends of the daemons' logs, for the message of a failed test."""
        return "".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))

    def _write_config(self) -> None:
        host = socket.gethostname().split(".")[0]
        for name in ("etc", "state", "gpus", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        for gpu in range(GPUS):
            os.mknod(self.folder / "gpus" / f"gpu{gpu}", 0o666 | stat.S_IFCHR, NULL_DEVICE)
        shape = f"CPUs={CPUS} Boards=1 SocketsPerBoard=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory={MEMORY_MB}"
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={7000 + index} {shape} Gres=gpu:{GPUS}"
            for index, name in enumerate(self.nodes, start=1)
        ]
        accounting = ACCOUNTING.format(folder=self.folder) if self.accounting else ""
        config = CONFIG.format(host=host, folder=self.folder, nodes="\n".join(nodes), accounting=accounting)
        gpus = f"NodeName={','.join(self.nodes)} Name=gpu Count={GPUS} File={self.folder}/gpus/gpu[0-{GPUS - 1}]\n"
        for name, text in {
            "slurm.conf": config,
            "gres.conf": gpus,
            "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n",
            "slurmdbd.conf": DATABASE.format(host=host, folder=self.folder),
        }.items():
            path = self.folder / "etc" / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)

    def _open_namespaces(self) -> None:
        init = [sys.executable, str(Path(__file__).with_name("slurm_init.py")), str(self.folder / "etc")]
        spaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child"]
        self._first = subprocess.Popen([*spaces, *init], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == "ready\n", "the namespaces did not come up"

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        self._start("/usr/sbin/munged", "--force", f"--log-file={self.folder / 'munged.log'}", *options)

    def _start_accounting(self) -> None:
        """Bring up MariaDB and slurmdbd, and give root an account."""
        data, place = self.folder / "mysql", self.folder / "mysql.socket"
        self.run("mariadb-install-db", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=socket")
        options = ["--user=root", f"--datadir={data}", f"--socket={place}", "--skip-networking"]
        sizes = ["--innodb-buffer-pool-size=128M", "--innodb-lock-wait-timeout=900"]
        self._start(
            "/usr/sbin/mariadbd", "--no-defaults", *options, *sizes, f"--pid-file={self.folder}/mariadb.pid", wait=False
        )
        self._wait_until("MariaDB answers", lambda: self._works("mariadb-admin", f"--socket={place}", "ping"))
        self._start("env", f"MYSQL_UNIX_PORT={place}", "/usr/sbin/slurmdbd")
        self._wait_until("slurmdbd answers", lambda: self._works("sacctmgr", "--noheader", "show", "cluster"))
        for what in (("cluster", "tests"), ("account", "lab"), ("user", "root", "account=lab")):
            self.run("sacctmgr", "--immediate", "add", *what)

    def _start(self, *arguments: str, wait: bool = True) -> None:
        log = (self.folder / "daemons.log").open("a", encoding="utf-8")
        with log:
            process = self.popen(*arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            assert process.wait(timeout=START_SECONDS) == 0, (arguments, self.logs())

    def _works(self, *arguments: str) -> bool:
        done = subprocess.run(self.command(*arguments), env=_environment(), capture_output=True, check=False)
        return done.returncode == 0

    def _all_idle(self) -> bool:
        states = self.run("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%T", check=False).split()
        return states == ["idle"] * len(self.nodes)

    def _wait_until(self, what: str, done: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"not so after {START_SECONDS} s: {what}\n{self.logs()}"
            time.sleep(0.2)


def _environment() -> dict[str, str]:
    """Return this process's environment without what SLURM or a job of it may have left there."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
