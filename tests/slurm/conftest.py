"""Where no cluster can be brought up, everything here is left out and the reason is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm.slurm_cluster import ACCOUNTING_PACKAGES, PACKAGES, why_not
from slurm.slurm_material import SECONDS, TARGETS, make_checkout, run_here

pytest.register_assert_rewrite("slurm.slurm_faults")  # its assertions are to say what they saw


@pytest.fixture(scope="session")
def slurm() -> None:
    """Debian's SLURM, installed where it is missing."""
    reason = why_not((*PACKAGES, *ACCOUNTING_PACKAGES))
    if reason:
        pytest.skip(f"no SLURM here: {reason}")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, slurm: None) -> Path:
    """A checkout in which the whole workflow has run on this machine: what the cluster is to give, byte for byte."""
    folder = tmp_path_factory.mktemp("reference")
    make_checkout(folder)
    run_here(folder, *TARGETS)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how long each scenario took."""
    for name, seconds in SECONDS.items():
        terminalreporter.write_line(f"{seconds:6.0f} s  {name}")
