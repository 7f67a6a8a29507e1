"""The test clusters themselves: they cannot touch another SLURM, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm.slurm_cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]  # packages may have to be installed
ETC = Path("/etc/slurm")


def processes_of(cluster: Cluster) -> list[str]:
    """List the commands of the processes on this machine that use a cluster's files."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile
            continue
    return [line for line in lines if str(cluster.folder) in line]


@pytest.mark.usefixtures("slurm")
def test_clusters_stand_side_by_side_touch_no_other_and_leave_nothing() -> None:
    before = {path: path.stat().st_mtime_ns for path in ETC.rglob("*")}
    with Cluster(nodes=1) as one, Cluster(nodes=2) as two:
        for cluster in (one, two):
            assert cluster.run("srun", "hostname") and processes_of(cluster)
            assert len(cluster.run("sinfo", "--noheader", "--Node", "--partition=gpu").splitlines()) == len(
                cluster.nodes
            )
            assert {path: path.stat().st_mtime_ns for path in ETC.rglob("*")} == before
    for cluster in (one, two):
        assert not processes_of(cluster) and not cluster.folder.exists()
