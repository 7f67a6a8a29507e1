"""Tell whether the process that left some files is still alive: it says at its start who and where it is.

For locks that a killed process leaves behind. Only what is certain counts: a file that no record names, or that was
written again since, a process of another machine or out of sight in another container is taken for alive.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from video_vae.files import atomic_path

BOOT = Path("/proc/sys/kernel/random/boot_id")
MACHINE = Path("/etc/machine-id")
START_FIELD = 19
"""Place of a process's start time in `/proc/PID/stat`, after the name in brackets."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, such that no other one is taken for it."""

    host: str
    machine: str
    """What the installed system is called, as hosts may share a name."""
    boot: str
    """Differs each time that the machine starts."""
    namespace: str
    """In which process numbers count: that of a container or of the machine."""
    pid: int
    started: str
    """Ticks of the clock from the machine's start to that of the process: process numbers come again."""

    def alive(self) -> bool:
        """Tell whether it may live: not only where it was seen to, but also where that cannot be known from here."""
        here = this_process()
        if (self.host, self.machine) != (here.host, here.machine):
            return True
        if self.boot != here.boot:
            return False
        return self.namespace != here.namespace or started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def started(pid: int) -> str:
    """Return when a process started, in ticks of the clock since the machine did; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[START_FIELD]


def this_process() -> Owner:
    """Describe the process that asks."""
    return Owner(
        host=socket.gethostname(),
        machine=_text(MACHINE),
        boot=_text(BOOT),
        namespace=str(Path("/proc/self/ns/pid").readlink()),
        pid=os.getpid(),
        started=started(os.getpid()),
    )


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""


def record_owner(files: Iterable[str | Path], records: Path) -> None:
    """Record in a folder that this process made some files; records of which no file is left are removed."""
    for path in records.glob("*.json"):
        if not any(_same(name, time) for name, time in _files(path).items()):
            path.unlink(missing_ok=True)
    owner = this_process()
    made = {str(path): Path(path).stat().st_mtime_ns for path in files}
    with atomic_path(records / f"{owner.host}-{owner.pid}.json", known=True) as aside:
        aside.write_text(json.dumps({"owner": asdict(owner), "files": made}), encoding="utf-8")


def owners(files: Iterable[Path], records: Path) -> dict[Path, Owner | None]:
    """Return who made each file, None where no record says so."""
    known: dict[str, Owner] = {}
    for path in sorted(records.glob("*.json")):
        values = _values(path)
        with suppress(KeyError, TypeError):
            owner = Owner(**values["owner"])
            known |= {name: owner for name, time in values["files"].items() if _same(name, time)}
    return {path: known.get(str(path)) for path in files}


def _same(name: str, time: int) -> bool:
    try:
        return Path(name).stat().st_mtime_ns == time
    except OSError:
        return False


def _files(path: Path) -> Mapping[str, int]:
    files = _values(path).get("files")
    return files if isinstance(files, dict) else {}


def _values(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
