"""The steps of the Containerfile make an image with the lock's packages, and jobs run in it.

No container engine runs in a test: `image.py` runs the steps in a chroot, `apptainer.sh` stands in for Apptainer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from envs.generate import PIP, PYTHON
from packaging.utils import canonicalize_name

from environments.image import APPTAINER, build
from material import write_clips
from tiny_material import SETTINGS
from workflow.workflow_material import ROOT, Checkout

pytestmark = [pytest.mark.installs, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Build the image; it has 7 GB, so it does not stay."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.fail("needs root and debootstrap (Debian: apt-get install debootstrap)")
    with tempfile.TemporaryDirectory(prefix="video-vae-image-", dir=os.environ.get("VIDEO_VAE_IMAGE_FOLDER")) as folder:
        build(Path(folder, "root"), ROOT)
        yield Path(folder, "root")


def _inside(image: Path, *command: str) -> str:
    program: list[str | Path] = [APPTAINER, "exec", "--home", tempfile.gettempdir(), image, *command]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout


def test_the_image_holds_the_packages_of_the_lock_and_no_others(image: Path) -> None:
    assert _inside(image, "python", "--version").strip() == f"Python {PYTHON}"
    listed = json.loads(_inside(image, "python", "-m", "pip", "list", "--format=json"))
    found = {canonicalize_name(entry["name"]): entry["version"] for entry in listed}
    here = {canonicalize_name(entry.metadata["Name"]): entry.version for entry in distributions()}
    assert found == here | {"pip": PIP}
    _inside(image, "python", "-m", "pip", "check")


def test_a_whole_run_computes_in_the_image(image: Path, checkout: Checkout, lpips_folder: Path, seen: Path) -> None:
    write_clips(checkout.folder / "clips", frames=12)
    settings = {**SETTINGS, "experiments": {}, "latents": {"shards": 1}}
    settings["evaluation"] = SETTINGS["evaluation"] | {"stages": ["stage3"], "baselines": False}
    (checkout.folder / "tiny.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copytree(lpips_folder, checkout.folder / "resources/lpips")
    (checkout.folder / "envs/video-vae.sif").symlink_to(image)
    programs = checkout.folder.parent / "bin"
    programs.mkdir()
    (programs / "apptainer").symlink_to(APPTAINER)
    command = [sys.executable, "-m", "snakemake", "results/metrics.csv", "reports/report.html"]
    result = subprocess.run(
        [*command, "--sdm", "apptainer", "--configfile", "tiny.json"],
        cwd=checkout.folder,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]
    assert (checkout.folder / "reports/report.html").is_file()
    lines = seen.read_text(encoding="utf-8").splitlines()
    jobs = [line for line in lines if re.search(r"-m video_vae", line)]
    assert len(jobs) > 8 and all(line.startswith("/opt/video-vae/env ") for line in jobs), jobs
