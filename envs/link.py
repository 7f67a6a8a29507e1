"""Make .venv, a light environment: the cached environment's packages and this checkout's src, with its own scripts.

    CACHED/bin/python envs/link.py ROOT STAMP

Run by the cached environment's interpreter. Several checkouts share the cached environment, so nothing in it may point
to one of them: the light environment adds the checkout's src to the path, and its scripts start its own interpreter.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import venv
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

CACHED = Path(sys.prefix)
SCRIPT = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


def link(root: Path, stamp: str) -> None:
    """Build the light environment aside and put it in the place of the old one."""
    final, aside = root / ".venv", root / f".venv.{os.getpid()}"
    try:
        venv.EnvBuilder(symlinks=True).create(aside)
        _move_paths(aside, final)
        _write_path_file(aside, root)
        _write_scripts(aside / "bin", final / "bin" / "python")
        for name in ("share", "etc"):
            if (CACHED / name).is_dir() and not (aside / name).exists():
                (aside / name).symlink_to(CACHED / name)
        (aside / ".complete").write_text(stamp, encoding="utf-8")
        _replace(final, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move_paths(aside: Path, final: Path) -> None:
    for path in (aside / "pyvenv.cfg", *(aside / "bin").glob("[Aa]ctivate*")):
        path.write_text(path.read_text(encoding="utf-8").replace(str(aside), str(final)), encoding="utf-8")


def _write_path_file(aside: Path, root: Path) -> None:
    packages = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    lines = [str(root / "src"), *(f"import site; site.addsitedir({folder!r})" for folder in sorted(packages))]
    own = Path(sysconfig.get_path("purelib", vars={"base": str(aside), "platbase": str(aside)}))
    (own / "video_vae.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_scripts(folder: Path, python: Path) -> None:
    own = EntryPoint("video-vae", "video_vae.cli:main", "console_scripts")
    scripts = {point.name: point for point in (*entry_points(group="console_scripts"), own)}
    for point in scripts.values():
        text = SCRIPT.format(
            python=python, module=point.module, name=point.attr.partition(".")[0], attribute=point.attr
        )
        _write_script(folder / point.name, text)
    for path in (CACHED / "bin").iterdir():
        target = folder / path.name
        if target.exists() or target.is_symlink() or path.name.startswith(("python", "activate", "Activate")):
            continue
        if path.is_file() and path.read_bytes()[:2] != b"#!":
            target.symlink_to(path)  # a program of its own, such as ruff
        elif path.is_file():
            _write_script(target, _with_interpreter(path.read_text(encoding="utf-8"), python))


def _with_interpreter(text: str, python: Path) -> str:
    first, _, rest = text.partition("\n")
    if "python" not in first:
        return text
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n{rest}"


def _write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _replace(final: Path, aside: Path) -> None:
    if final.is_symlink():
        final.unlink()
    elif final.exists():
        old = aside.with_suffix(".old")
        final.rename(old)
        aside.rename(final)
        shutil.rmtree(old)
        return
    aside.rename(final)


if __name__ == "__main__":
    link(Path(sys.argv[1]), sys.argv[2])
