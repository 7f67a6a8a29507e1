"""Which Python ran what, as every one of them notes it."""

from __future__ import annotations

from pathlib import Path


def note_pythons(checkout: Path) -> Path:
    """Make every Python that finds a checkout's package note its prefix and command line in the file returned."""
    file = checkout / "seen.txt"
    note = f"open({str(file)!r}, 'a').write(f'{{sys.prefix}} {{\" \".join(sys.orig_argv)}}\\n')\n"
    (checkout / "src/sitecustomize.py").write_text(f"import sys\n{note}", encoding="utf-8")
    return file


def ran_in(file: Path, job: str) -> set[str]:
    """Name the prefixes of the Pythons that ran a job."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if job in line}
