"""Build an image in a folder as a Containerfile says, where no container engine runs: its steps run in a chroot.

The base image, Python on Debian, is stood in for: Debian by debootstrap, its Python by the CPython that runs this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from environments.channel import python_files

APPTAINER = Path(__file__).with_name("apptainer.sh")
LIBRARIES = (
    "ca-certificates",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
)
"""Debian packages that CPython's own modules are linked with; the base image has them too."""
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(containerfile: str) -> list[tuple[str, str]]:
    """List the instructions of a Containerfile in order: keyword and text."""
    lines = containerfile.replace("\\\n", "").splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def build(root: Path, context: Path) -> None:
    """Build the image of `context`/Containerfile in the folder `root`."""
    environment: dict[str, str] = {}
    for keyword, text in instructions((context / "Containerfile").read_text(encoding="utf-8")):
        if keyword == "FROM":
            _make_base(root, text)
        elif keyword == "COPY":
            source, target = text.split()
            copied = root / target.lstrip("/")
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context / source, copied)
        elif keyword == "ENV":
            name, _, value = text.partition("=")
            environment[name] = value
        elif keyword == "RUN":
            _run_step(root, text)
        else:
            assert keyword == "LABEL", keyword
    exported = "".join(f'export {name}="{value}"\n' for name, value in environment.items())
    with (root / "environment.sh").open("a", encoding="utf-8") as stream:
        stream.write(exported)


def _make_base(root: Path, image: str) -> None:
    found = re.fullmatch(r"docker\.io/library/python:([\d.]+)-slim-(\w+)", image)
    assert found is not None, image
    python, release = found.groups()
    running = sys.version.split()[0]
    assert python == running, f"the image has Python {python}, this is {running}"
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(LIBRARIES)}", release, root], check=True)
    for name, content in python_files():
        path = root / "usr/local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
            path.chmod(0o755 if name.startswith("bin/") else 0o644)
    (root / "environment.sh").write_text(f"export PATH={PATH}\n", encoding="utf-8")


def _run_step(root: Path, command: str) -> None:
    """Run a step with this machine's access to its package registry."""
    settings = _pip_settings()
    text = " ".join(settings.values())
    indexes = {str(Path(path).parent) for path in re.findall(r"file://(/\S+)", text)}  # an index names files beside it
    paths = indexes | set(re.findall(r"(?:^|\s)(/\S+)", text))
    home = root.parent / "home"
    home.mkdir(exist_ok=True)
    binds = [part for path in sorted(paths) if Path(path).exists() for part in ("--bind", path)]
    subprocess.run(
        [APPTAINER, "exec", "--home", home, *binds, root, "sh", "-ec", command],
        env={**os.environ, **settings},
        check=True,
    )


def _pip_settings() -> dict[str, str]:
    """Read pip's configuration, from files and variables, as variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [re.match(r"(?:global|:env:|install)\.([\w-]+)='(.*)'$", line) for line in lines]
    return {f"PIP_{pair[1].replace('-', '_').upper()}": pair[2] for pair in pairs if pair}
