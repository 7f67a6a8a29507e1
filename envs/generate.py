"""Generate from requirements.lock what installs it elsewhere: conda environments, a Containerfile, an Apptainer file.

All hold the same packages, by version and hash, with the same Python and pip.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from video_vae.cli import run_tool
from video_vae.config.docs import write_or_check
from video_vae.errors import UserError

LOCK = Path("requirements.lock")
FOLDER = Path("envs")
PYTHON = "3.11.7"
"""The Python that the lock was tested with."""
PIP = "24.0"
"""The pip that installs the packages: every version since 22 checks hashes."""
PIP_SHA256 = "ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc"
BASE_IMAGE = f"docker.io/library/python:{PYTHON}-slim-bookworm"
ENVIRONMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "video-vae": ("Everything that the lock pins, for the rules that compute", ()),
    "fetch": ("For fetch_package, which needs the network and no torch", ("pydantic", "pyyaml", "tqdm")),
    "tables": (
        "For prepare_manifest and collect_metrics, which need no torch",
        ("av", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "pyyaml", "tqdm"),
    ),
    "snakemake": ("For draw_rulegraph, which asks Snakemake itself", ("pydantic", "pyyaml", "snakemake")),
}
"""What each environment is for and the packages that its rules import; none stands for the whole lock."""
LINUX = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": PYTHON,
    "python_version": PYTHON.rpartition(".")[0],
    "sys_platform": "linux",
}
"""Where the environments are for, so that every machine generates the same text."""
HEAD = """\
# Generated from requirements.lock by `make config`; do not edit. {purpose}.
# The packages come from pip, by exact version and hash, so that conda jobs compute with what `make env` installs.
name: {name}
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={python}
  - pip={pip}
  - pip:
"""


IMAGE_HEAD = """\
# Generated from requirements.lock by `make config`; do not edit. The packages of the lock, by version and hash,
# and git, with which a run says what code made it. No code of this project: a job brings its checkout's. Build it with
#     {build}
"""
CONTAINERFILE = """\
FROM {base}
LABEL video-vae.lock=sha256:{digest}
COPY requirements.lock /opt/video-vae/requirements.lock
RUN {steps}
ENV PATH=/opt/video-vae/env/bin:$PATH
"""
APPTAINER = """\
Bootstrap: docker
From: {base}

%labels
    video-vae.lock sha256:{digest}

%files
    requirements.lock /opt/video-vae/requirements.lock

%post
    set -e
    {steps}

%environment
    export PATH=/opt/video-vae/env/bin:$PATH
"""
STEPS = (
    "apt-get update",
    "apt-get install --yes --no-install-recommends git",
    "rm -rf /var/lib/apt/lists/*",
    "python -m venv /opt/video-vae/env",
    "echo 'pip=={pip} --hash=sha256:{pip_sha256}' > /opt/video-vae/pip.txt",
    "/opt/video-vae/env/bin/python -m pip install --no-cache-dir --require-hashes --requirement /opt/video-vae/pip.txt",
    "/opt/video-vae/env/bin/python -m pip install --no-cache-dir --require-hashes --no-deps"
    " --requirement /opt/video-vae/requirements.lock",
)


def requirements(lock: str) -> Iterator[str]:
    """Yield each requirement of a lock in one line: name, version, marker and hashes."""
    for line in lock.replace("\\\n", " ").splitlines():
        text = " ".join(line.split())
        if text and not text.startswith("#"):
            yield text


def pinned(lock: str) -> list[tuple[str, str]]:
    """List name and text of each requirement of a lock.

    Raises:
        UserError: if a requirement has no exact version or no hash.
    """
    lines = list(requirements(lock))
    loose = [line for line in lines if "==" not in line or "--hash=sha256:" not in line]
    if loose:
        raise UserError(f"{LOCK}: {loose[0].split()[0]} has no exact version and hash; run `make lock`")
    return [(canonicalize_name(line.partition("==")[0]), line) for line in lines]


def needed(packages: Iterable[str]) -> set[str]:
    """List packages and all that they depend on, as the installed packages declare it for Linux.

    Raises:
        UserError: if one of them is not installed.
    """
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "") for name in packages]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in _declared(name):
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({**LINUX, "extra": extra}):
                waiting += [(canonicalize_name(wanted.name), part) for part in ("", *wanted.extras)]
    return {name for name, _ in found}


def _declared(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        raise UserError(f"{name} is not installed here, so what it needs is not known; run `make env`") from None


def environment_text(name: str, lock: str) -> str:
    """Write a conda environment of the table `ENVIRONMENTS` with the versions and hashes of a lock.

    Raises:
        UserError: if a requirement has no exact version or no hash, or the lock lacks a package.
    """
    purpose, packages = ENVIRONMENTS[name]
    lines = pinned(lock)
    wanted = needed(packages) if packages else {package for package, _ in lines}
    missing = wanted - {package for package, _ in lines}
    if missing:
        raise UserError(f"{LOCK} lacks {', '.join(sorted(missing))}, which {name}.yaml needs; run `make lock`")
    head = HEAD.format(name=name, purpose=purpose, python=PYTHON, pip=PIP)
    return head + "".join(f"      - {_quoted(line)}\n" for package, line in lines if package in wanted)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def image_texts(lock: str) -> dict[Path, str]:
    """Write the Containerfile and the Apptainer definition of an image that holds a lock's packages."""
    steps = [step.format(pip=PIP, pip_sha256=PIP_SHA256) for step in STEPS]
    values = {"base": BASE_IMAGE, "digest": hashlib.sha256(lock.encode()).hexdigest()}
    return {
        Path("Containerfile"): IMAGE_HEAD.format(build="podman build --tag video-vae .")
        + CONTAINERFILE.format(**values, steps=" \\\n && ".join(steps)),
        FOLDER / "video-vae.def": IMAGE_HEAD.format(build="apptainer build envs/video-vae.sif envs/video-vae.def")
        + APPTAINER.format(**values, steps="\n    ".join(steps)),
    }


def generated(lock: str) -> dict[Path, str]:
    """Write every file that is made from a lock: path in the checkout -> text."""
    environments = {FOLDER / f"{name}.yaml": environment_text(name, lock) for name in ENVIRONMENTS}
    return environments | image_texts(lock)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--root", type=Path, default=Path(), help="root of the checkout [here]")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")


def run(args: argparse.Namespace) -> None:
    """Write the environments and image files, or check that they are up to date."""
    try:
        lock = (args.root / LOCK).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{args.root / LOCK}: {error.strerror}; run this in the root of the checkout") from None
    wanted = {args.root / path: text for path, text in generated(lock).items()}
    write_or_check(wanted, check=args.check, command="make config")


if __name__ == "__main__":
    raise SystemExit(run_tool(sys.modules[__name__], "python envs/generate.py", "--check"))
