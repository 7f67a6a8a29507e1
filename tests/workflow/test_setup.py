"""`make env`: what is missing is said in one line with the cure, and checkouts share packages but not sources."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from video_vae.config import load_config, parse_config
from workflow.workflow_material import ROOT

COMMANDS = ("python", "snakemake", "torchrun", "ruff", "mypy", "pytest", "video-vae", "jupyter")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space, with an empty HOME beside it."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "envs", folder / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    return folder


def _setup(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(checkout.parent / "home"), **variables}
    return subprocess.run(
        [checkout / "envs" / "setup.sh"], env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def _refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    return result.stderr.strip().splitlines()[-1]


def test_an_old_python_is_refused_with_the_cure(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    tools.mkdir()
    old = '#!/bin/sh\n[ "$1" != --version ] || exec echo Python 3.9.2\nexit 1\n'
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tools / name).write_text(old, encoding="utf-8")
        (tools / name).chmod(0o755)
    line = _refused(_setup(checkout, PATH=f"{tools}:/usr/bin:/bin"))
    assert line.startswith("env: Python 3.11 or newer is needed, found Python 3.9.2; install one")


def test_a_cache_that_cannot_be_written_is_refused_with_the_cure(checkout: Path) -> None:
    line = _refused(_setup(checkout, VIDEO_VAE_ENV_CACHE="/proc/none"))
    assert "cannot be written; set VIDEO_VAE_ENV_CACHE" in line


def test_a_full_disk_is_refused_with_the_cure(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    tools.mkdir()
    # A disk that is nearly full cannot be had in a test: the report of one can.
    (tools / "df").write_text("#!/bin/sh\nprintf 'head\\ndisk 9 9 1048576 9 /\\n'\n", encoding="utf-8")
    (tools / "df").chmod(0o755)
    line = _refused(_setup(checkout, PATH=f"{tools}:{os.environ['PATH']}"))
    assert "has 1 GB free, the packages need 10 GB" in line


def test_an_unreachable_registry_is_named_with_the_cure(checkout: Path) -> None:
    line = _refused(_setup(checkout, PIP_NO_INDEX="1", PIP_CONFIG_FILE="/dev/null", PIP_FIND_LINKS=""))
    assert line.startswith("env: no package registry could be reached (ERROR")
    assert line.endswith("check the network, or set PIP_INDEX_URL to a mirror")


def test_an_environment_of_your_own_is_left_alone(checkout: Path) -> None:
    installed = _installed_environment()
    if installed is None:
        pytest.skip("these tests do not run in an environment that `make env` made")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    line = _refused(_setup(checkout, VIDEO_VAE_ENV_CACHE=str(installed.parent)))
    assert line.endswith("/.venv was not made by make env; move it away")


def test_checkouts_share_packages_and_have_their_own_sources(checkout: Path, tmp_path: Path) -> None:
    installed = _installed_environment()
    if installed is None:
        pytest.skip("these tests do not run in an environment that `make env` made")
    result = _setup(checkout, VIDEO_VAE_ENV_CACHE=str(installed.parent))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    for name in COMMANDS:
        assert os.access(checkout / ".venv" / "bin" / name, os.X_OK), name
    where: list[str | Path] = [
        checkout / ".venv/bin/python",
        "-c",
        "import sys, video_vae, yaml; print(video_vae.__file__, yaml.__file__)",
    ]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(checkout / "src") in found and str(installed) in found
    version = subprocess.run(
        [checkout / ".venv/bin/video-vae", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("video-vae ")
    before = (checkout / ".venv/pyvenv.cfg").stat().st_mtime_ns
    assert _setup(checkout, VIDEO_VAE_ENV_CACHE=str(installed.parent)).returncode == 0
    assert (checkout / ".venv/pyvenv.cfg").stat().st_mtime_ns == before


def _installed_environment() -> Path | None:
    """Find the cached environment that this interpreter's packages lie in."""
    folders = [Path(entry).resolve() for entry in sys.path if entry.endswith("site-packages")]
    candidates = [parent for folder in folders for parent in folder.parents if (parent / ".complete").is_file()]
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()[:16]
    return next((path for path in candidates if path.name == f"env-{digest}"), None)


def test_clips_of_your_own_are_one_run_without_the_demos_experiments(tmp_path: Path) -> None:
    script = ROOT / "workflow" / "scripts" / "own_clips.py"
    environment = {**os.environ, "CLIPS": str(tmp_path), "RUN": "mine"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    demo = load_config(ROOT / "config" / "demo.yaml")
    mine = parse_config(demo.model_dump(mode="json") | json.loads(done.stdout))
    assert demo.experiments and not mine.experiments
    assert mine.experiment == "mine"
