"""Folders of a checkout may be links to another disk: a finished run stays finished, and what is lost is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.workflow_material import Checkout, jobs

FOLDERS = ("results", "resources", "config", "workflow/weights/spatial_vae")


@pytest.mark.parametrize("whole", [False, True], ids=["folders", "checkout"])
def test_a_run_behind_links_stays_finished_and_goes_on(own_copy: Checkout, tmp_path: Path, whole: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for name in FOLDERS if not whole else ("",):
        place = own_copy.folder / name
        moved = place.rename(disk / (Path(name).name or "checkout"))
        place.symlink_to(moved)
    assert own_copy.plan() == {}
    (own_copy.folder / "results" / "metrics.csv").unlink()
    result = own_copy.snakemake("results/metrics.csv", "--configfile", "config/demo.yaml")
    assert result.returncode == 0 and jobs(result.stdout + result.stderr) == {"collect_metrics": 1}
    assert all((own_copy.folder / name).is_symlink() for name in (FOLDERS if not whole else ("",)))
