"""Checks of the machine: packages, GPU, video, disk, memory, network."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "broken"]
PACKAGES = ("torch", "torchvision", "diffusers", "safetensors", "av", "cv2", "lpips", "pandas", "pyarrow", "matplotlib")
ENCODERS = {"ffv1": "reconstructions", "libx264": "previews"}
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "prores")
DISK_GB, DISK_NEEDED_GB = 20.0, 1.0
"""Free disk below which it is said to be little, and below which nothing can be written."""
MEMORY_GB = 6.0
"""Memory that the demo needs at its largest, with room."""
TIMEOUT_SECONDS = 4.0
CUDNN_MENDED = 91500
"""First cuDNN with which torch 2.9.1 computes 3-D convolutions of half precision by it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found of one thing."""

    name: str
    state: State
    """`ok`; `note`: something will not work that is not needed here; `broken`: something needed will not work."""
    text: str
    """What there is, or what will not work and what to do."""


def check_python() -> Iterator[Check]:
    """Check the interpreter and the packages that the jobs import."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(name="Python", state="ok", text=f"{version}, {sys.executable}")
    broken = {name: problem for name in PACKAGES if (problem := _import_problem(name))}
    for name, problem in broken.items():
        yield Check(name=name, state="broken", text=f"does not import ({problem}); make it again: make env")
    found = [
        f"{name} {getattr(sys.modules[name], '__version__', '')}".strip() for name in PACKAGES if name not in broken
    ]
    yield Check(name="packages", state="ok", text=", ".join(found))
    if shutil.which("snakemake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") is None:
        yield Check(
            name="snakemake", state="note", text="not found: the commands work, the workflow does not; make env"
        )


def _import_problem(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken native library may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return ""


def conv3d_problem(torch_version: str, cudnn: int | None) -> str | None:
    """Say what is wrong with a pair of torch and cuDNN (9.10.2 is 91002), or None where nothing is known.

    torch 2.9.0 does 3-D convolutions of half precision without cuDNN, in many times the memory; 2.9.1 does so where
    cuDNN is older than 9.15 (pytorch/pytorch, issue 166643).
    """
    first, second = torch_version.startswith("2.9.0"), torch_version.startswith("2.9.1")
    if not first and (not second or (cudnn or 0) >= CUDNN_MENDED):
        return None
    return (
        f"torch {torch_version} with cuDNN {cudnn} takes many times the memory for 3-D convolutions in bf16; "
        "take torch 2.10 or newer, or 2.9.1 with cuDNN 9.15 or newer"
    )


def check_gpu() -> Iterator[Check]:
    """Check whether torch can use a GPU; nothing needs one."""
    if _import_problem("torch"):
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            half = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16: set precision fp32"
            text = f"{index}: {properties.name}, {properties.total_memory / 1e9:.0f} GB, {half}"
            yield Check(name="GPU", state="ok", text=text)
        if problem := conv3d_problem(torch.__version__, torch.backends.cudnn.version()):
            yield Check(name="GPU", state="note", text=problem)
    elif shutil.which("nvidia-smi"):
        text = f"there is a driver, but torch {torch.__version__} finds no GPU; update it to CUDA {torch.version.cuda}"
        yield Check(name="GPU", state="note", text=text)
    else:
        threads = torch.get_num_threads()
        yield Check(name="GPU", state="note", text=f"none: everything computes on the CPU ({threads} threads), slowly")


def check_video() -> Iterator[Check]:
    """Check that videos can be read and written: by PyAV, which brings its FFmpeg."""
    if _import_problem("av"):
        return
    import av

    missing = {name: what for name, what in ENCODERS.items() if not _has_codec(name, "w")}
    for name, what in missing.items():
        yield Check(
            name="video", state="broken", text=f"PyAV {av.__version__} cannot write {name}, for {what}: make env"
        )
    lost = [name for name in DECODERS if not _has_codec(name, "r")]
    text = f"PyAV {av.__version__} reads {', '.join(name for name in DECODERS if name not in lost)}"
    yield Check(
        name="video",
        state="ok",
        text=f"{text}{'; not ' + ', '.join(lost) if lost else ''}, writes {', '.join(ENCODERS)}",
    )
    program = "there" if shutil.which("ffmpeg") else "not there"
    peer = "there" if importlib.util.find_spec("decord") else "not there"
    yield Check(name="ffmpeg, decord", state="ok", text=f"{program}, {peer}; not needed, PyAV brings its own FFmpeg")


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    from av.codec import Codec

    try:
        Codec(name, mode)
    except ValueError:  # UnknownCodecError is one
        return False
    return True


def check_disk(folder: Path) -> Iterator[Check]:
    """Check that there is room where results go, and that it can be written to."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.0f} GB free in {place}"
    if not os.access(place, os.W_OK):
        yield Check(name="disk", state="broken", text=f"{place} cannot be written to; go to a folder of yours")
    elif free < DISK_NEEDED_GB:
        yield Check(
            name="disk", state="broken", text=f"{text}; nothing can be written: free some, or take another disk"
        )
    elif free < DISK_GB:
        yield Check(name="disk", state="note", text=f"{text}; enough for the demo, little for latents of many clips")
    else:
        yield Check(name="disk", state="ok", text=text)


def check_memory() -> Iterator[Check]:
    """Check the memory that jobs may take: the machine's, or what its control group allows."""
    limits = {"free": _meminfo("MemAvailable")}
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(path).read_text(encoding="utf-8").strip() if Path(path).is_file() else ""
        if text.isdigit() and int(text) < 1 << 60:
            limits["allowed to this group of processes"] = int(text) / 1e9
    what, least = min(
        ((name, value) for name, value in limits.items() if value), key=lambda item: item[1], default=("", 0)
    )
    if not least:
        yield Check(name="memory", state="note", text="this system does not say how much there is")
    elif least < MEMORY_GB:
        yield Check(
            name="memory", state="note", text=f"{least:.1f} GB {what}: run one job at a time (--cores 1), small clips"
        )
    else:
        yield Check(name="memory", state="ok", text=f"{least:.0f} GB {what}, {os.cpu_count()} cores")


def _meminfo(name: str) -> float:
    path = Path("/proc/meminfo")
    match = (
        re.search(rf"^{name}:\s+(\d+) kB", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    )
    return int(match[1]) * 1024 / 1e9 if match else 0.0


def check_network(name: str, address: str, needed_for: list[str], cure: str) -> Iterator[Check]:
    """Check whether a server answers; that matters only where something is to be fetched from it."""
    host = urllib.parse.urlsplit(address).hostname or address or name
    problem = _unreached(address)
    if not problem:
        yield Check(name=name, state="ok", text=f"{host} answers")
    elif needed_for:
        yield Check(
            name=name,
            state="broken",
            text=f"{host} is not reached ({problem}), needed for {', '.join(needed_for)}; {cure}",
        )
    else:
        yield Check(name=name, state="ok", text=f"{host} is not reached ({problem}); nothing here needs it")


def _unreached(address: str) -> str:
    """Say why a server does not answer; empty where it does, even if it refuses."""
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 (the user's own address)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"status {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return " ".join(str(reason).split())[:100] or type(error).__name__


def run_checks(checks: list[Callable[[], Iterator[Check]]]) -> Iterator[Check]:
    """Run checks one after the other; one that breaks is itself a finding."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever a strange machine makes a check raise is what it found
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield Check(name="check", state="note", text=f"could not be made ({text})")
