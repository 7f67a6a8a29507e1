"""What ran: code, config, data, environment, seed, hardware. Imports no torch: a dry run names fingerprints too."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from video_vae.files import atomic_path, sha256_file, walk
from video_vae.redaction import hide_in

PACKAGES = (
    "video-vae",
    "torch",
    "torchvision",
    "diffusers",
    "safetensors",
    "lpips",
    "numpy",
    "pandas",
    "scikit-image",
    "av",
    "opencv-python-headless",
    "pydantic",
    "snakemake",
)
SOURCE = Path(__file__).resolve().parent
CHECKOUT = SOURCE.parents[1]
"""The checkout that this package lies in, if it does: an installed one has none."""
CONFIG_FILES = "VIDEO_VAE_CONFIG_FILES"
"""Set by the workflow: the config files that a job's settings were cut from, separated like PATH."""
CONFIG_GIVEN = "VIDEO_VAE_CONFIG_GIVEN"
"""Set by the workflow: what its command line changes in the config files, as JSON or as the path of a file of it."""
MAX_VARIABLE = 100_000
"""Characters that an environment variable may have: with 128 KiB in one, Linux starts no program."""
RECORD = "run.json"
"""Name of a job's record in its folder; the record of a job with one file is FILE without its ending, then this."""
_IMPORTED = time.time()


def canonical_json(value: Any) -> str:
    """Write a value as JSON in one way only: sorted keys, no spaces, tuples as lists, no NaN.

    Raises:
        TypeError, ValueError: for a value that JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Any) -> str:
    """Identify a JSON-like value by content: 16 hexadecimal digits of the sha256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def sha256_path(path: str | Path) -> str:
    """Hash a file, or a folder by the names and contents of all files below it but hidden ones (64 hex digits)."""
    return str(path_record(path)["sha256"])


@dataclass(frozen=True)
class Part:
    """Some files of a folder, by their paths below it."""

    folder: Path
    names: Sequence[str]


def path_record(what: str | Path | Part, name: str | Path | None = None) -> dict[str, Any]:
    """Identify a file by sha256, size (bytes) and time of change (ns), or a folder by all files below it.

    Args:
        what: file, folder, or some files of a folder.
        name: path to record, where the file is still to be renamed to it.
    """
    if not isinstance(what, Part) and not Path(what).is_dir():
        return {"path": str(name or what), **_identity(Path(what))}
    part = what if isinstance(what, Part) else Part(Path(what), _below(Path(what)))
    files = {inner: _identity(part.folder / inner) for inner in sorted(part.names)}
    listing = [[inner, values["sha256"]] for inner, values in files.items()]
    digest = hashlib.sha256(canonical_json(listing).encode()).hexdigest()
    return {"path": str(name or part.folder), "sha256": digest, "files": files}


def _below(folder: Path) -> list[str]:
    inner = (path for parent, names in walk(folder) for name in names if (path := Path(parent, name)).is_file())
    # Snakemake leaves a hidden time stamp in the folders that it manages.
    return [path.relative_to(folder).as_posix() for path in inner if not path.name.startswith(".")]


def _identity(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"sha256": sha256_file(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def recorded(path: Path) -> dict[str, Any]:
    """Identify a file by the record beside it where size and time of change are still the same, else by hashing it.

    For what is large and was hashed when it was written, such as the latent cache.
    """
    try:
        outputs = json.loads(path.with_suffix(f".{RECORD}").read_text(encoding="utf-8"))["outputs"]
        status = path.stat()
        for entry in outputs.values():
            same = (entry["bytes"], entry["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
            if same and Path(entry["path"]).name == path.name:
                return {**entry, "path": str(path)}
    except (OSError, ValueError, KeyError, AttributeError):
        pass  # a record that cannot be read says nothing: the file itself is hashed
    return path_record(path)


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    with atomic_path(path) as aside:
        aside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def code_record() -> dict[str, Any]:
    """Name the code that runs: git commit, whether the tree differs from it, and a hash of the package's sources."""
    sources = {part.relative_to(SOURCE).as_posix(): sha256_file(part) for part in sorted(SOURCE.rglob("*.py"))}
    record: dict[str, Any] = {"commit": None, "dirty": None, "sources": fingerprint(sources)}
    # A checkout that merely surrounds an installed package says nothing about it: the file itself must be tracked.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is not None:
        record["commit"] = _git("rev-parse", "HEAD")
        record["dirty"] = bool(_git("status", "--porcelain", "--", str(SOURCE)))
    else:
        record["commit"] = _archived_commit()
    return record


def _archived_commit() -> str | None:
    """Return the commit that a copy made by `git archive` names; None in a checkout or an installed package."""
    try:
        commit = re.search("[0-9a-f]{40}", (CHECKOUT / ".git_archival.txt").read_text(encoding="utf-8"))
    except OSError:
        return None
    return commit[0] if commit else None


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(SOURCE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Give the installed versions of the packages that results depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware_record() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory in GB, GPUs (where torch is already loaded)."""
    record: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [],
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        record["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return record


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() else None


def _config_files() -> list[dict[str, str]]:
    paths = [path for path in os.environ.get(CONFIG_FILES, "").split(os.pathsep) if Path(path).is_file()]
    return [{"path": path, "sha256": sha256_file(path)} for path in paths]


def config_variables(files: Sequence[str], given: Mapping[str, Any], folder: Path | None) -> dict[str, str]:
    """Return the environment variables by which jobs record what their settings were cut from.

    Args:
        files: config files.
        given: what a command line changes in them.
        folder: for a file of what is too long for a variable; None to write nothing, where no job will run.
    """
    text = canonical_json(given)
    if len(text) > MAX_VARIABLE:
        path = (folder or Path()).absolute() / f"given-{fingerprint(given)}.json"
        if folder is not None and not path.is_file():
            with atomic_path(path, known=True) as aside:
                aside.write_text(text, encoding="utf-8")
        text = str(path)
    return {CONFIG_FILES: os.pathsep.join(files), CONFIG_GIVEN: text}


def _config_given() -> Any:
    text = os.environ.get(CONFIG_GIVEN) or "{}"
    return json.loads(text if text.startswith("{") else Path(text).read_text(encoding="utf-8"))


def run_record(
    command: str,
    config: Any,
    inputs: Mapping[str, str | Path | Part] | None = None,
    *,
    outputs: Mapping[str, str | Path | Part | None] | None = None,
    started: float | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Record a run for its run.json, without tokens and passwords.

    Args:
        command: name of the subcommand.
        config: settings, a pydantic model or a JSON-like value; a `seed` in it is recorded by name as well.
        inputs: name -> file or folder that was read, recorded with its sha256.
        outputs: name -> file or folder that was written, recorded alike; None is left out.
        started: Unix time of the start in seconds; the time of the package's import where it is not given.
        extra: more fields, JSON-like.
    """
    settings = config.model_dump(mode="json") if hasattr(config, "model_dump") else config
    begin, end = started or _IMPORTED, time.time()
    record = {
        "command": command,
        "arguments": sys.argv[1:],
        "start": datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        "end": datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds"),
        "seconds": round(end - begin, 3),
        "seed": settings.get("seed") if isinstance(settings, Mapping) else None,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": _threads(),
        "config": settings,
        "config_files": _config_files(),
        "config_given": _config_given(),
        "inputs": {name: path_record(path) for name, path in sorted((inputs or {}).items())},
        "outputs": {name: path_record(path) for name, path in (outputs or {}).items() if path is not None},
        **_surroundings(),
        **extra,
    }
    shown: dict[str, Any] = hide_in(record)
    return shown


def _surroundings() -> dict[str, Any]:
    return {
        "code": code_record(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "hardware": hardware_record(),
    }
