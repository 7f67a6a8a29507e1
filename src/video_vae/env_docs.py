"""Generate the conda environment of the rules from requirements.lock: the same packages, by version and hash."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from video_vae.config_docs import write_or_check
from video_vae.errors import UserError

LOCK = Path("requirements.lock")
ENVIRONMENT = Path("envs/video-vae.yaml")
PYTHON = "3.11.7"
"""The Python that the lock was tested with."""
PIP = "24.0"
"""The pip that installs the pip part: every version since 22 checks hashes."""
HEAD = """\
# Generated from requirements.lock by `make config`; do not edit. The packages come from pip, by exact version and hash,
# so that conda jobs compute with what `make env` installs.
name: video-vae
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={python}
  - pip={pip}
  - pip:
"""


def requirements(lock: str) -> Iterator[str]:
    """Yield each requirement of a lock in one line: name, version, marker and hashes."""
    for line in lock.replace("\\\n", " ").splitlines():
        text = " ".join(line.split())
        if text and not text.startswith("#"):
            yield text


def environment_text(lock: str) -> str:
    """Write the conda environment of a lock.

    Raises:
        UserError: if a requirement has no exact version or no hash.
    """
    lines = list(requirements(lock))
    loose = [line for line in lines if "==" not in line or "--hash=sha256:" not in line]
    if loose:
        raise UserError(f"{LOCK}: {loose[0].split()[0]} has no exact version and hash; run `make lock`")
    return HEAD.format(python=PYTHON, pip=PIP) + "".join(f"      - {_quoted(line)}\n" for line in lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `env-docs`."""
    parser.add_argument("--root", type=Path, default=Path(), help="root of the checkout [here]")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the file is out of date")


def run(args: argparse.Namespace) -> None:
    """Write the conda environment, or check that it is up to date."""
    try:
        lock = (args.root / LOCK).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{args.root / LOCK}: {error.strerror}; run this in the root of the checkout") from None
    write_or_check({args.root / ENVIRONMENT: environment_text(lock)}, check=args.check, command="make config")
