"""Stand-in for every job: writes the declared outputs, so that a whole workflow is done in seconds.

Copied over the package's entry points in a temporary checkout: what is planned depends on files and settings only, and
those are real.
"""

import sys
from itertools import pairwise
from pathlib import Path

FILES = {
    "--output-dir": ["manifest.csv", "rejected.csv", "train.csv", "test.csv"],
    "--output_dir": ["frames.parquet", "clips.csv", "summary.json"],
    "--output": [""],
    "--index": [""],
    "--figures": ["figure.svg"],
    "--tables": ["main.md"],
    "--morph": [""],
}
FOLDERS = {
    "--stage": ["model/config.json", "run.json", "log.jsonl"],
    "start-model": ["model/config.json", "spatial/config.json", "run.json"],
    "train-spatial": ["config.json"],
    "fetch": ["files.json"],
}
"""Word of a command -> what it writes below its --output."""
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def make_folders(name: str, arguments: list[str]) -> None:
    made: tuple[str, ...] = ("mean", "repeat") if "--baselines" in arguments else ("rec", "spatial")
    if "--latent-bits" in arguments:
        made = (*made, "rec_q8")
    if "--rival" in arguments:
        made = (arguments[arguments.index("--rival") + 1],)
    for variant in ("ori", "preview", *made):
        Path(f"{name}_{variant}").mkdir(parents=True, exist_ok=True)


def write(arguments: list[str]) -> None:
    given = " ".join(arguments)
    if "--index" in arguments:
        make_folders(arguments[arguments.index("--save-dir") + 1], arguments)
        arguments = arguments[arguments.index("--index") :]
    for flag, value in pairwise(arguments):
        for name in FILES.get(flag, []):
            path = Path(value, name) if name else Path(value)
            targets = [path]
            inner = next((names for word, names in FOLDERS.items() if word in arguments), [])
            targets = [path / name for name in inner] or targets
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(NOTEBOOK if target.suffix == ".ipynb" else given, encoding="utf-8")
    if "convert-lpips" in arguments:
        folder = Path(arguments[arguments.index("convert-lpips") + 1])
        for net in ("alex", "vgg"):
            (folder / f"{net}.safetensors").write_text("weights", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
