"""The conda environment holds what the lock pins, and is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from video_vae.cli import main
from video_vae.env_docs import ENVIRONMENT, LOCK, environment_text
from video_vae.errors import UserError

ROOT = Path(__file__).parents[2]


def test_environment_is_up_to_date_with_the_lock() -> None:
    assert main(["env-docs", "--check", "--root", str(ROOT)]) == 0, "run `make config` and commit the result"


def test_every_package_has_an_exact_version_and_a_hash() -> None:
    environment = yaml.safe_load((ROOT / ENVIRONMENT).read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert python.startswith("python=3.") and pip.startswith("pip=")
    assert any(line.startswith("torch==2.14.1 ") for line in packages["pip"])
    assert all("==" in line and "--hash=sha256:" in line for line in packages["pip"])


def test_generated_files_name_no_host() -> None:
    for path in (LOCK, ENVIRONMENT):
        assert "://" not in (ROOT / path).read_text(encoding="utf-8")


def test_a_lock_without_hashes_is_refused() -> None:
    with pytest.raises(UserError, match="numpy==2 has no exact version and hash; run `make lock`"):
        environment_text("# pinned\nnumpy==2\n")
