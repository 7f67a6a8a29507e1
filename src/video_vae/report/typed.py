"""What a person types to start the workflow in this folder. Imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path

STARTS = "-m video_vae.run_project"
"""What `run` of a project folder holds, and nobody else's script."""


def typed(words: str, configfile: str = "", project: Path | None = None) -> str:
    """Write the command that starts the workflow with some targets or options.

    A project folder has no Snakefile: its `run` knows where that is, and its config.

    Args:
        words: targets and options of Snakemake, quoted for the shell.
        configfile: the config; in a project folder another than its config.yaml is named, too.
        project: the folder that the command is for [the working folder].
    """
    run = (project or Path()) / "run"
    try:
        ours = run.is_file() and STARTS in run.read_text(encoding="utf-8", errors="replace")
    except OSError:
        ours = False
    if ours and configfile in ("", "config.yaml"):
        return f"./run {words}"
    config = f"--configfile {shlex.quote(configfile)}" if configfile else ""
    # the option takes all the words that follow it: targets stand before
    parts = (config, words) if words.startswith("-") else (words, config)
    return " ".join(("snakemake", *filter(None, parts)))
