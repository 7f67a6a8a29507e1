"""Make a conda channel that holds the Python that runs this and a pip, for tests where no conda channel is reached.

    python channel.py FOLDER WHEEL_OF_PIP

Needs py-rattler, which indexes the channel as conda-forge is indexed.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

VERSION = ".".join(map(str, sys.version_info[:3]))
SHORT = ".".join(map(str, sys.version_info[:2]))
BASE = Path(sys.base_prefix)
LIBRARY = BASE / "lib" / f"python{SHORT}"
LEFT_OUT = {"__pycache__", "site-packages", "test", "tests", "idlelib", "turtledemo", "lib2to3"}


def python_files() -> Iterator[tuple[str, bytes | str]]:
    """Yield path and content of the running CPython's files; a text is where a symbolic link points to."""
    program = (BASE / "bin" / f"python{SHORT}").read_bytes()
    # the program finds its library beside itself, wherever conda links it: the shorter path fits in the old one's place
    old, new = f"{BASE}/lib\0".encode(), b"$ORIGIN/../lib\0"
    yield f"bin/python{SHORT}", program.replace(old, new.ljust(len(old), b"\0"))
    for link in ("python", "python3"):
        yield f"bin/{link}", f"python{SHORT}"
    for path in sorted(BASE.glob(f"lib/libpython{SHORT}.so*")):
        if not path.is_symlink():
            yield f"lib/{path.name}", path.read_bytes()
    for path in sorted(LIBRARY.rglob("*")):
        inner = path.relative_to(LIBRARY)
        if path.is_file() and not LEFT_OUT & set(inner.parts) and not inner.parts[0].startswith("config-"):
            yield f"lib/python{SHORT}/{inner}", path.read_bytes()


def wheel_files(wheel: Path) -> Iterator[tuple[str, bytes | str]]:
    """Yield path and content of a pure Python wheel's files, as a noarch package has them."""
    with ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith("/"):
                yield f"site-packages/{name}", archive.read(name)


def pack(channel: Path, index: dict[str, object], files: Iterator[tuple[str, bytes | str]], **info: object) -> None:
    """Write a conda package: a tar of the files and of what is said of them under info/."""
    target = channel / str(index["subdir"]) / f"{index['name']}-{index['version']}-{index['build']}.tar.bz2"
    target.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
        for name, content in files:
            linked = isinstance(content, str)
            paths.append({"_path": name, "path_type": "softlink" if linked else "hardlink"})
            _add(archive, name, content, executable=name.startswith("bin/"))
        described = {"index": index, "paths": {"paths": paths, "paths_version": 1}, **info}
        for name, value in described.items():
            _add(archive, f"info/{name}.json", json.dumps(value).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes | str, *, executable: bool = False) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o755 if executable else 0o644
    if isinstance(content, str):
        entry.type, entry.linkname = tarfile.SYMTYPE, content
        archive.addfile(entry)
        return
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


async def make(channel: Path, pip_wheel: Path) -> None:
    """Pack and index the channel."""
    from rattler.index import index_fs

    python = {"name": "python", "version": VERSION, "build": "0_local", "build_number": 0, "subdir": "linux-64"}
    pack(channel, python | {"depends": [], "arch": "x86_64", "platform": "linux"}, python_files())
    version = pip_wheel.name.split("-")[1]
    pip = {"name": "pip", "version": version, "build": "py_0", "build_number": 0, "subdir": "noarch"}
    scripts = {"type": "python", "entry_points": ["pip = pip._internal.cli.main:main"]}
    link = {"noarch": scripts, "package_metadata_version": 1}
    pack(channel, pip | {"depends": ["python >=3.7"], "noarch": "python"}, wheel_files(pip_wheel), link=link)
    await index_fs(channel, write_zst=False, write_shards=False, force=True)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]), Path(sys.argv[2])))
