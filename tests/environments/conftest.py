"""A conda that is set up from nothing, and checkouts with the whole package to run jobs in."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from envs.generate import PIP, PYTHON

from environments.pythons import note_pythons
from tiny_material import copy_project
from workflow.workflow_material import Checkout

HERE = Path(__file__).parent
RATTLER = "py-rattler==0.28.0"
ACTIVATE = 'export CONDA_PREFIX="$1" CONDA_DEFAULT_ENV="$1" PATH="$1/bin:$PATH"\n'


@pytest.fixture(scope="session")
def conda(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which `conda` is found, with a channel `conda-forge` of its own."""
    if sys.version.split()[0] != PYTHON:
        pytest.fail(f"the channel would hold Python {sys.version.split()[0]}, the environments ask for {PYTHON}")
    folder = tmp_path_factory.mktemp("conda")
    venv.EnvBuilder(with_pip=True).create(folder / "tools")
    python = folder / "tools/bin/python"
    _run(python, "-m", "pip", "install", "--quiet", RATTLER, "pyyaml")
    _run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"pip=={PIP}")
    _run(python, str(HERE / "channel.py"), f"{folder}/channels/conda-forge", f"{folder}/pip-{PIP}-py3-none-any.whl")
    programs = folder / "root/bin"
    programs.mkdir(parents=True)
    text = f"#!{python}\n" + (HERE / "conda.py").read_text(encoding="utf-8")
    (programs / "conda").write_text(text, encoding="utf-8")
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text(ACTIVATE, encoding="utf-8")
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CONDA_CHANNEL_ALIAS": f"file://{folder}/channels"}


def _run(program: Path, *arguments: str) -> None:
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with the real package and the demo's settings, in which nothing has run."""
    copy_project(tmp_path / "checkout")
    return Checkout(tmp_path / "checkout")


@pytest.fixture
def seen(checkout: Checkout) -> Path:
    """A file in which every Python that finds the checkout's package notes its prefix and command line."""
    return note_pythons(checkout.folder)
