"""The files that describe the project agree with each other and with the formats that others read."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import video_vae.data

ROOT = Path(__file__).parents[2]
CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_KNOWN = CFF_REQUIRED | {"type", "abstract", "version", "license", "keywords", "date-released", "references"}
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""sha256 of the licence's text as the Apache foundation publishes it."""


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def _project() -> dict[str, Any]:
    values: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return values


def test_the_citation_has_the_keys_that_the_format_asks_for_and_no_unknown_one() -> None:
    citation = _yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= CFF_REQUIRED and citation.keys() <= CFF_KNOWN
    assert all(author.keys() <= {"name", "family-names", "given-names", "orcid"} for author in citation["authors"])


def test_version_and_licence_are_the_same_everywhere() -> None:
    citation, project = _yaml("CITATION.cff"), _project()
    assert citation["version"] == project["version"] == video_vae.__version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    newest = re.search(r"^## (\S+?),", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None and newest[1] == project["version"]


def test_the_licence_is_the_whole_text() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_workflow_catalog_finds_what_it_wants() -> None:
    usage = _yaml(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["report"] is True and usage["software-stack-deployment"]["conda"] is True
    assert (ROOT / "workflow" / "Snakefile").is_file() and (ROOT / "config" / "README.md").is_file()
    config = re.search(r"--configfile (\S+)", usage["mandatory-flags"]["flags"])
    assert config is not None and (ROOT / config[1]).is_file()


def test_the_guide_to_the_data_package_names_its_modules() -> None:
    modules = {path.stem for path in Path(video_vae.data.__path__[0]).glob("*.py")} - {"__init__"}
    guide = re.findall(r"^    (\w+)  |`(\w+)`", video_vae.data.__doc__ or "", re.MULTILINE)
    named = {first or second for first, second in guide} - {"MediaError"}
    assert modules == named
