"""Write files whole or not at all, and identify them by content. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a free path beside `path`; what the caller writes there (file or folder) replaces `path` on success.

    The yielded name keeps the suffixes of `path`, so that writers which go by them work. On an exception whatever was
    written aside is removed and `path` is as it was before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    try:
        written = aside / target.name
        yield written
        _settle(written, target.parent.stat().st_mode & 0o666)
        if target.is_dir() and not target.is_symlink():
            target.replace(aside / f"{target.name}.old")
        written.replace(target)
        _flush_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _settle(path: Path, mode: int) -> None:
    """Flush the files, and let those read them who may read the folder (some writers make private files)."""
    for part in path.rglob("*") if path.is_dir() else (path,):
        if part.is_file() and not part.is_symlink():
            part.chmod(part.stat().st_mode | mode)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """Hash a file's content: 64 lower-case hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
