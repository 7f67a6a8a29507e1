"""Stand in for the `conda` program: what Snakemake calls of it, on py-rattler, which solves and links for real.

Channels are looked up under $CONDA_CHANNEL_ALIAS, as real conda looks them up. Lies in ROOT/bin, beside `activate`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import rattler
import yaml

ROOT = Path(__file__).resolve().parents[1]
VERSION = "24.11.3"
SAID = {
    "info": {"conda_prefix": str(ROOT), "root_prefix": str(ROOT), "platform": "linux-64", "conda_version": VERSION},
    "config": {"get": {"channel_priority": "strict"}},
}


async def link(specs: list[str], channels: list[str], prefix: str) -> None:
    """Solve for the specs with strict channel priority, and link the packages found."""
    alias = os.environ["CONDA_CHANNEL_ALIAS"].rstrip("/")
    records = await rattler.solve(
        [rattler.Channel(f"{alias}/{name}") for name in channels if name != "nodefaults"],
        specs,
        platforms=["linux-64", "noarch"],
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(records, prefix, cache_dir=ROOT / "pkgs", show_progress=False)


def create(file: str, prefix: str) -> None:
    """Make an environment from a YAML file: conda's part, then pip's part with the environment's own pip."""
    wanted: dict[str, Any] = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    specs = [entry for entry in wanted["dependencies"] if isinstance(entry, str)]
    packages = [line for entry in wanted["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    asyncio.run(link(specs, wanted["channels"], prefix))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
        listed.write("\n".join(packages))
        listed.flush()
        pip = [f"{prefix}/bin/python", "-m", "pip", "install", "--quiet", "--requirement", listed.name]
        subprocess.run(pip, check=True)


def main(arguments: list[str]) -> None:
    """Answer `conda --version`, `info`, `config`, `env create` and `clean`."""
    if arguments == ["--version"]:
        sys.stdout.write(f"conda {VERSION}\n")
    elif arguments[0] in SAID:
        sys.stdout.write(json.dumps(SAID[arguments[0]]) + "\n")
    elif arguments[:2] == ["env", "create"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--file", required=True)
        parser.add_argument("--prefix", required=True)
        known, _ = parser.parse_known_args(arguments[2:])
        create(known.file, known.prefix)
    elif arguments[0] != "clean":  # the cache goes with the test that made it
        sys.exit(f"this stand-in for conda does not know: conda {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
