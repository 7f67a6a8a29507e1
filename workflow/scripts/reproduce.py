"""Run the workflow twice in two fresh folders and compare what came out byte for byte: `make reproduce`.

The first run does as many jobs at once as there are cores, the second one after another: how the work is spread must
not show in the results. Both give a job the same number of threads, since sums in another order round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("workflow", "config", "envs", "src")
COMPARED = ("*.safetensors", "*.mkv", "*.mp4", "*.csv", "*.parquet")
"""Weights and latents, reconstructions and their previews, tables. Records hold dates and durations, so they differ."""


def results_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each compared file under a folder's results, by its path there."""
    found = sorted({path for pattern in COMPARED for path in (folder / "results").rglob(pattern)})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Name the files that differ, and those that only one run has."""
    lines = [
        f"{name}: not the same bytes" for name in sorted(first.keys() & second.keys()) if first[name] != second[name]
    ]
    return lines + [f"{name}: in one run only" for name in sorted(first.keys() ^ second.keys())]


def prepare(folder: Path) -> None:
    """Copy the workflow into a folder; fetched packages, whose hashes are checked, are shared."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (ROOT / "resources").mkdir(exist_ok=True)
    (folder / "resources").symlink_to(ROOT / "resources")


def run(folder: Path, configfiles: list[str], cores: int, threads: int) -> None:
    """Run the workflow in a folder up to the metrics; stop with its status if it fails."""
    limits = ["--cores", str(cores), "--max-threads", str(threads)]
    command = [sys.executable, "-m", "snakemake", *limits, "--configfile", *configfiles, "--", "results/metrics.csv"]
    sys.stdout.write(f"reproduce: {' '.join(command[3:])} in {folder}\n")
    sys.stdout.flush()
    status = subprocess.run(command, cwd=folder, check=False).returncode
    if status:
        raise SystemExit(status)


def main() -> None:
    """Run twice, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", nargs="+", default=["config/demo.yaml"], help="config of both runs [the demo]")
    parser.add_argument("--threads", type=int, default=1, help="threads of a job [%(default)s]")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores of the first run [all]")
    args = parser.parse_args()
    configfiles = [str(Path(name).resolve()) for name in args.configfile]
    with tempfile.TemporaryDirectory(prefix="reproduce_", dir=ROOT) as name:
        found = []
        for number, cores in enumerate((args.cores, args.threads)):
            folder = Path(name) / f"run_{number}"
            folder.mkdir()
            prepare(folder)
            run(folder, configfiles, cores, args.threads)
            found.append(results_of(folder))
    lines = differences(*found)
    if lines:
        raise SystemExit("\n".join(lines) + f"\nreproduce: {len(lines)} of {len(found[0])} files differ")
    sys.stdout.write(f"reproduce: {len(found[0])} files are the same, byte for byte\n")


if __name__ == "__main__":
    main()
