"""What is done with the commands of the documents, by the kind of their mark."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.run import get_args_parser

from documents import ROOT, Block
from video_vae import cli

STAND_INS = {"/path/to/clips": "my_clips", "/my/clips.csv": "my_clips/clips.csv", "/my/clips": "my_clips"}
"""Paths of a reader, and what stands in for them here."""
MODULES = {command.module for command in cli.COMMANDS.values()} | {"video_vae.launch"}


def stand_in(text: str) -> str:
    """Put the tests' own files in the place of a reader's."""
    for given, here in STAND_INS.items():
        text = text.replace(given, here)
    return text


def plan(commands: Sequence[Sequence[str]], folder: Path) -> list[tuple[int, str]]:
    """Plan Snakemake commands without running their jobs; return exit status and output of each."""
    assert {Path(words[0]).name for words in commands} <= {"snakemake"}
    asked = ["\0".join(["-n", *map(stand_in, words[1:])]) for words in commands]
    once = list(dict.fromkeys(asked))
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("planning.py")],
        input=json.dumps([text.split("\0") for text in once]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(zip(once, json.loads(result.stdout), strict=True))
    return [(found[text][0], found[text][1]) for text in asked]


def parse(words: Sequence[str]) -> None:
    """Let the real parsers read a command line; they leave by SystemExit where they cannot."""
    program = Path(words[0]).name
    module, arguments = program, list(words[1:])
    if program == "torchrun":
        launch = get_args_parser().parse_args(arguments)
        assert launch.module, words
        module, arguments = launch.training_script, launch.training_script_args
    elif program in ("python", "python3"):
        assert arguments[0] == "-m", words
        module, arguments = arguments[1], arguments[2:]
    if module in ("video-vae", "video_vae"):
        command, *arguments = arguments
        module = cli.COMMANDS[command].module
    assert module in MODULES, words
    parser = argparse.ArgumentParser(prog=module)
    importlib.import_module(module).add_arguments(parser)
    parser.parse_args(arguments)


def make(words: Sequence[str]) -> None:
    """Check that make has the targets, and takes the variables."""
    assert words[0] == "make", words
    result = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def read_only(block: Block) -> None:
    """Check that bash or Python can read a block."""
    if block.language == "python":
        compile(block.text, block.place, "exec")
    else:
        result = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{block.place}: {result.stderr}"


def write_file(folder: Path, block: Block) -> None:
    """Write a block under the name that its mark gives."""
    path = folder / block.words
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def run(block: Block, folder: Path) -> None:
    """Run a block in a folder; it has to succeed (`fails`: to end with a user's error) and to print its answer."""
    shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    path = os.pathsep.join((str(Path(sys.prefix, "bin")), os.environ["PATH"]))
    result = subprocess.run(
        [*shell, stand_in(block.text)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=900 if block.kind == "slow" else 120,
    )
    output = result.stdout + result.stderr
    assert result.returncode == (cli.USAGE_STATUS if block.kind == "fails" else 0), f"{block.place}:\n{output}"
    for line in block.answer.splitlines():
        wanted = re.escape(line.rstrip()).replace(r"\.\.\.", ".*")
        assert re.search(f"^{wanted}$", output, re.MULTILINE), f"{block.place} does not print {line!r}:\n{output}"


def run_document(blocks: Sequence[Block], folder: Path) -> None:
    """Write a document's files and run its commands, in their order."""
    for block in blocks:
        if block.kind == "file":
            write_file(folder, block)
        elif block.kind in ("run", "slow", "fails"):
            run(block, folder)
