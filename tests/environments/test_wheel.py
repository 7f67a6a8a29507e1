"""The package installs into anybody's environment: a core that loads models, and the rest by extras."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
from email.parser import HeaderParser
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from envs.generate import LOCK, needed, pinned
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from material import make_video_vae
from video_vae.cli import main

ROOT = Path(__file__).parents[2]
CORE = {"torch", "diffusers", "safetensors", "numpy"}
OLDEST = ("torch==2.6.0", "diffusers==0.33.1", "numpy==1.26.4", "safetensors==0.4.5")
"""Versions that a person may have: the oldest that the core's ranges allow, or nearly."""
USE = """
import importlib.util, sys, torch
from video_vae.models import VideoAutoencoderKL
vae = VideoAutoencoderKL.from_pretrained(sys.argv[1]).eval().requires_grad_(False)
video = torch.linspace(-1, 1, 3 * 9 * 32 * 40).view(1, 3, 9, 32, 40)
latents = vae.encode_latents(video)
frames = vae.decode_latents(latents, num_frames=9)
print(tuple(latents.shape), tuple(frames.shape), f"{frames.double().mean():.5f}")
print([name for name in ("av", "pandas", "pydantic", "matplotlib", "snakemake") if importlib.util.find_spec(name)])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is made from, outside the checkout, where builders may leave what they like."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    _run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(source / "dist"),
        ".",
        cwd=source,
    )
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as `export` writes it."""
    folder = tmp_path_factory.mktemp("shared")
    make_video_vae(folder)
    assert main(["export", str(folder / "model"), "--format=diffusers", f"--output={folder / 'shared'}"]) == 0
    return folder / "shared"


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _declared(wheel: Path) -> list[Requirement]:
    text = _run(sys.executable, "-m", "zipfile", "-l", str(wheel))
    name = next(line.split()[0] for line in text.splitlines() if "METADATA" in line)
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def test_the_core_is_small_and_nothing_is_pinned_but_in_the_lock(wheel: Path) -> None:
    declared = _declared(wheel)
    assert {part.name for part in declared if part.marker is None} == CORE
    assert not [str(part) for part in declared if "==" in str(part.specifier)]
    versions = {name: line.partition("==")[2].split()[0] for name, line in pinned((ROOT / LOCK).read_text())}
    for part in declared:
        name = canonicalize_name(part.name)
        assert name == "video-vae" or part.specifier.contains(versions[name]), f"{part}: the lock has {versions[name]}"


def test_every_package_that_is_imported_is_declared(wheel: Path) -> None:
    names = {canonicalize_name(part.name) for part in _declared(wheel)}
    known = packages_distributions()
    used: dict[str, str] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            used |= {module.partition(".")[0]: path.name for module in modules}
    foreign = {
        name: path for name, path in used.items() if name not in {*sys.stdlib_module_names, "video_vae", "decord"}
    }
    reached = {canonicalize_name(name) for name in needed(names - {"video-vae"})}
    assert {"torch", "av", "pydantic"} <= foreign.keys()
    for name, importer in foreign.items():
        assert {canonicalize_name(part) for part in known[name]} & reached, f"{importer} imports {name}"


def test_the_core_alone_loads_a_shared_model(wheel: Path, shared: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    _run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    for package in needed(CORE):
        found = distribution(package)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    alone = {**os.environ, "PYTHONPATH": str(site)}
    said = _run(sys.executable, "-S", "-W", "ignore", "-c", USE, str(shared), cwd=tmp_path, env=alone).splitlines()
    assert said[0].startswith("(1, 4, 3, 4, 5) (1, 3, 9, 32, 40) ") and said[1] == "[]"
    command = [sys.executable, "-S", "-m", "video_vae", "import", str(shared), "--output", "model"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and re.search(r"needs the package \w+; .*pip install 'video-vae\[train\]'", done.stderr)
    assert done.stderr.count("\n") == 1 and "video-vae" in _run(*command[:4], "--help", cwd=tmp_path, env=alone)


@pytest.mark.installs
@pytest.mark.timeout(3600)
def test_the_wheel_works_beside_an_older_torch_and_may_be_uploaded(
    source: Path, wheel: Path, shared: Path, tmp_path: Path
) -> None:
    venv.EnvBuilder(with_pip=True).create(tmp_path / "env")
    python = str(tmp_path / "env/bin/python")
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run(*install, *OLDEST, str(wheel))
    old, no_others = _run(python, "-W", "ignore", "-c", USE, str(shared), cwd=tmp_path).splitlines()
    new = _run(
        sys.executable, "-W", "ignore", "-c", USE, str(shared), env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    assert old == new.splitlines()[0] and no_others == "[]"
    _run(*install, "build", "twine")
    _run(python, "-m", "build", "--outdir", "built", cwd=source)
    assert len(list((source / "built").iterdir())) == 2
    _run(python, "-m", "twine", "check", "--strict", *map(str, (source / "built").iterdir()))
