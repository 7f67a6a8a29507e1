"""What `run` of a project folder looks at before it starts the workflow: a lock left by a killed run, and SLURM.

    python -m video_vae.run_project OPTIONS OF ./run

Its status is 0 where the workflow may start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from video_vae.distributed.owners import owners

LOCKS = Path(".snakemake/locks")
RECORDS = Path(".snakemake/video-vae/owners")
"""Where each run records which locks are its own, as `workflow/rules/hooks.smk` does."""
LOOKS = frozenset(
    {"-n", "--dry-run", "--dryrun", "--unlock", "--help", "-h", "--version", "-v", "--lint", "-l", "--list"}
)
"""Options with which no job runs, and nothing is locked."""
PROFILE = Path("profile/config.yaml")
NOTIFY_SECONDS = 60
"""Time that a message at the end of a run may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, and say what stands in the way; return the status to end with."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if LOOKS.intersection(given) or any(word.startswith("-n") and set(word[1:]) <= set("npqFRk") for word in given):
        return 0
    return _locked() or _not_submitted()


def _locked() -> int:
    """Offer to remove a lock whose process is dead for certain; every other one is Snakemake's business."""
    found = owners(sorted(LOCKS.glob("*.lock")), RECORDS)
    dead = {str(owner): owner for owner in found.values() if owner is not None and not owner.alive()}
    if not dead:
        for owner in {str(owner) for owner in found.values() if owner is not None}:
            _say(f"run: the workflow runs here already, {owner}")
        return 0
    left = f"{', '.join(dead)} was killed and left its lock"
    if any(owner is None or owner.alive() for owner in found.values()):
        _say(f"run: {left}; others have locks, too: end them, then ./run --unlock")
        return 1
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _say(f"run: {left}; remove it by ./run --unlock, then the same command goes on")
        return 1
    sys.stderr.write(f"run: {left}; remove it and go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return 1
    return subprocess.run(["./run", "--unlock"], check=False).returncode


def _not_submitted() -> int:
    """Say why the cluster would refuse the jobs of this profile, and which of its lines nobody has looked at."""
    from video_vae.doctor.cluster import check_slurm, submits

    if not submits(PROFILE):
        return 0
    checks = list(check_slurm(needed=True, profile=PROFILE))
    for check in checks:
        if check.state == "broken":
            _say(f"run: {PROFILE}: {check.text}")
        elif check.state == "note":
            _say(f"run: note: {check.text}")
    return 1 if any(check.state == "broken" for check in checks) else 0


def notify(outcome: str, config: str, report: str) -> str:
    """Call the command that the user wants to be told by, and return what is wrong with it.

    VIDEO_VAE_NOTIFY is a line for the shell; in it `$1` is `finished` or `failed`, `$2` the config, `$3` the report,
    which is empty where there is none.
    """
    command = os.environ.get("VIDEO_VAE_NOTIFY", "")
    if not command:
        return ""
    try:
        words = ["bash", "-c", command, "notify", outcome, config, report]
        done = subprocess.run(words, capture_output=True, text=True, timeout=NOTIFY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"VIDEO_VAE_NOTIFY: {error}"
    said = " ".join(done.stderr.split())[:200]
    return f"VIDEO_VAE_NOTIFY ended with status {done.returncode}: {said}" if done.returncode else ""


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
