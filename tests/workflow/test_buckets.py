"""Jobs find everything by what their rules declare, so that declared files may lie in a bucket instead of on a disk."""

from __future__ import annotations

import os
import re

import pytest

from workflow.workflow_material import ROOT, Checkout, copy_checkout, jobs

PLUGINS = ROOT / "tests/storage"
LOCAL = ".snakemake/storage/bucket/mine"
BUCKET = [
    *("--default-storage-provider", "bucket", "--default-storage-prefix", "bucket://mine"),
    *("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache", "storage-local-copies"),
    "--keep-storage-local-copies",
]
TARGETS = ("results/metrics.csv", "reports/report.html")


def _snakemake(checkout: Checkout, *arguments: str) -> str:
    """Run the demo with a bucket for its files."""
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH", "")]))
    options = [*TARGETS, "--configfile", "config/demo.yaml", "--printshellcmds", *BUCKET, *arguments]
    result = checkout.snakemake(*options, PYTHONPATH=path, BUCKETS=str(checkout.folder / "buckets"))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing has run."""
    return copy_checkout(tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="module")
def plan(checkout: Checkout) -> str:
    """The demo as planned with its files in a bucket."""
    return _snakemake(checkout, "-n")


def test_everything_is_planned_as_on_a_disk(plan: str, fresh: Checkout) -> None:
    assert jobs(plan) == fresh.plan(*TARGETS)


def test_jobs_name_files_where_storage_puts_them(plan: str) -> None:
    commands = re.findall(r"^Shell command: (?!None$)(.*)$", plan, re.MULTILINE)
    assert len(commands) > 15
    for command in commands:
        words = [word for word in command.split() if re.search(r"\b(results|resources|reports|logs)/", word)]
        assert words, command
        asked = "results/metrics.csv" if "--rulegraph" in command else ""
        assert all(word.rpartition(":")[2].startswith(LOCAL) or word == asked for word in words), command


def test_a_run_ends_in_the_bucket_and_is_not_repeated(checkout: Checkout) -> None:
    _snakemake(checkout)
    stored = checkout.folder / "buckets/mine"
    assert all((stored / name).is_file() for name in (*TARGETS, "results/demo/stage3/model/config.json"))
    assert not (checkout.folder / "results").exists()
    assert jobs(_snakemake(checkout, "-n")) == {}
