"""Checkouts in which nothing, or the whole demo, has run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workflow.workflow_material import Checkout, copy_checkout


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing has run."""
    return copy_checkout(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = copy_checkout(tmp_path_factory.mktemp("done"))
    result = checkout.snakemake("--configfile", "config/demo.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout


@pytest.fixture(scope="session")
def done(_finished: Checkout) -> Checkout:
    """A checkout in which the whole demo has run; only for dry runs."""
    return _finished


@pytest.fixture
def own_copy(_finished: Checkout, tmp_path: Path) -> Checkout:
    """A checkout in which the whole demo has run, to change at will."""
    shutil.copytree(_finished.folder, tmp_path / "copy", symlinks=True)
    return Checkout(tmp_path / "copy")
