"""What ran: code, config, data, environment, seed, hardware. Imports no torch: a dry run names fingerprints too."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from video_vae.files import atomic_path, sha256_file

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
    """Hash a file, or a folder by the names and contents of all files below it (64 hexadecimal digits)."""
    target = Path(path)
    if not target.is_dir():
        return sha256_file(target)
    files = sorted(part for part in target.rglob("*") if part.is_file())
    listing = [[part.relative_to(target).as_posix(), sha256_file(part)] for part in files]
    return hashlib.sha256(canonical_json(listing).encode()).hexdigest()


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
    return record


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


def run_record(
    command: str,
    config: Any,
    inputs: Mapping[str, str | Path] | None = None,
    *,
    started: float | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Record a run for its run.json.

    Args:
        command: name of the subcommand.
        config: settings, a pydantic model or a JSON-like value; a `seed` in it is recorded by name as well.
        inputs: name -> file or folder that was read, recorded with its sha256.
        started: Unix time of the start in seconds; the time of the package's import where it is not given.
        extra: more fields, JSON-like.
    """
    settings = config.model_dump(mode="json") if hasattr(config, "model_dump") else config
    begin, end = started or _IMPORTED, time.time()
    paths = {name: Path(path) for name, path in (inputs or {}).items()}
    return {
        "command": command,
        "arguments": sys.argv[1:],
        "start": datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        "end": datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds"),
        "seconds": round(end - begin, 3),
        "seed": settings.get("seed") if isinstance(settings, Mapping) else None,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": _threads(),
        "config": settings,
        "inputs": {name: {"path": str(path), "sha256": sha256_path(path)} for name, path in sorted(paths.items())},
        "code": code_record(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "hardware": hardware_record(),
        **extra,
    }
