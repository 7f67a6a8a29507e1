"""Write files whole or not at all, and identify them by content. Imports nothing heavy."""

from __future__ import annotations

import difflib
import errno
import fcntl
import filecmp
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path

from video_vae.errors import UserError
from video_vae.foreign import raise_if_foreign, traits_of
from video_vae.tar_members import TarProblem, file_of, find

HELD = ".held"
"""File in a scratch folder that its process keeps locked, so that others see whether it still lives."""
SCRATCH = ".part"
"""How the name of a scratch folder ends."""
MAX_LINKS = 40
"""Links followed one after the other, as the system does."""
UNWRITABLE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of the quota",
    errno.EROFS: "make it writable",
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.EIO: "look at the disk",
}
"""Reasons why a disk takes no file, and the cure of each."""
_RUST = re.compile(r"\(os error (\d+)\)")


def lexical(path: str | Path) -> Path:
    """Make a path absolute without following links, so that what lies above it is what its name says.

    The shell's name of the working folder is kept, which may lead through links. What `..` goes back from is followed,
    as the system does.
    """
    parts = Path(path).parts
    if os.pardir in parts:
        back = len(parts) - parts[::-1].index(os.pardir)
        return Path(*parts[:back]).resolve().joinpath(*parts[back:])
    shell = os.environ.get("PWD", "")
    same = Path(shell).is_absolute() and Path(shell).exists() and Path(shell).samefile(Path.cwd())
    return Path(shell if same else Path.cwd(), path)


def spellings(path: str | Path) -> list[Path]:
    """Return the absolute names of a path: as given, what it names where it is a link, then with all links followed."""
    names = [lexical(path)]
    while names[-1].is_symlink() and len(names) < MAX_LINKS:
        names.append(lexical(names[-1].parent / names[-1].readlink()))
    return list(dict.fromkeys([*names, Path(path).resolve()]))


def absence(path: str | Path) -> str:
    """Say why a path cannot be read, with the name that may be meant; nothing where it can.

    Such as `does not exist (looked in /work); did you mean clips/cats?`.
    """
    place = file_of(path)
    try:
        place.stat()
    except OSError as error:
        if place.is_symlink():
            return f"is a link to {place.readlink()}, which does not exist"
        if isinstance(error, PermissionError):
            return "lies in a folder that this user may not look into"
        where = "" if place.is_absolute() else f" (looked in {Path.cwd()})"
        return f"does not exist{where}{_meant(place)}"
    allowed = os.access(place, os.R_OK | os.X_OK if place.is_dir() else os.R_OK)
    if not allowed:
        return "may not be read by this user"
    try:
        find(path)
    except TarProblem as problem:
        return f"cannot be read: {problem.detail}"
    return ""


def _meant(lost: Path) -> str:
    """Name the path that exists and differs in one part, much like it."""
    there = next(folder for folder in lost.parents if folder.is_dir())
    wrong, *rest = lost.relative_to(there).parts
    with suppress(OSError):
        near = difflib.get_close_matches(wrong, [path.name for path in there.iterdir()], n=1)
        meant = next((path for name in near if (path := there.joinpath(name, *rest)).exists()), None)
        return f"; did you mean {meant}?" if meant is not None else ""
    return ""


def walk(folder: str | Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below one with the names of its files: links followed, hidden folders left out, none twice.

    A folder that lies there itself goes by its own name, not by that of a link to it.

    Args:
        folder: where to begin.
        on_error: called with each folder that cannot be listed.
    """
    seen: set[str] = set()
    starts = [str(folder)]
    for start in starts:
        for parent, folders, files in os.walk(start, onerror=on_error):
            here = os.path.realpath(parent)
            folders[:] = [] if here in seen else sorted(name for name in folders if not name.startswith("."))
            if here not in seen:
                seen.add(here)
                starts += [str(path) for name in folders if (path := Path(parent, name)).is_symlink()]
                yield parent, files


@contextmanager
def atomic_path(path: str | Path, *, known: bool | Collection[str] = False) -> Iterator[Path]:
    """Yield a free path beside `path`; what the caller writes there (file or folder) replaces `path` on success.

    Only what this project wrote is replaced: a file of another kind is refused, and what else lies in a folder stays
    there, beside the files that are written. The yielded name keeps the suffixes of `path`, so that writers which go by
    them work. On an exception whatever was written aside is removed and `path` is as it was before. What a killed
    process left aside is removed by the next one that writes `path`.

    Args:
        path: the file or folder to write.
        known: what has the name of a new file is replaced unseen: all of it, where the place is this project's own,
            such as a cache, or these files of the folder.

    Raises:
        OSError: where the disk takes no file; it names `path`, whichever library wrote.
        UserError: if something lies there that this project did not write.
    """
    target = output_place(Path(path))
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent, f".{target.name[:40]}") as aside:
            written = aside / target.name
            yield written
            _settle(written, target.parent.stat().st_mode & 0o666)
            if written.is_dir():
                _put_folder(written, target, aside, known)
            else:
                if not known:
                    _check_replaced(target, written)
                written.replace(target)
            _flush_folder(target.parent)


def output_place(path: Path) -> Path:
    """Return the path to write: of a folder that is a link, where it leads.

    Raises:
        UserError: if it is the folder that this process runs in, or one above it.
    """
    if not path.is_dir():
        return path
    target = path.resolve()
    if target in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"{path} is the folder that this runs in, or one above it; name one of its own to write")
    return target if path.is_symlink() or path.name in ("", "..") else path


def _check_replaced(target: Path, written: Path) -> None:
    """Refuse to replace what this project did not write, unless it is the same anyway."""
    if target.exists() and not (target.is_file() and filecmp.cmp(target, written, shallow=False)):
        raise_if_foreign(target, traits_of(written))


def _put_folder(written: Path, target: Path, aside: Path, known: bool | Collection[str]) -> None:
    """Put a folder in its place as a whole, or, where other files lie there, its files one by one, JSON last."""
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file, and a folder is to be written; name a folder")
    new, old = _files_below(written), _files_below(target)
    for name in new:
        if known is not True and not (known and str(name) in known):
            _check_replaced(target / name, written / name)
    if old <= new:
        if target.is_dir():
            target.replace(aside / f"{target.name}.old")
        written.replace(target)
        return
    for name in sorted(new, key=lambda name: (name.suffix == ".json", name)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (written / name).replace(target / name)
    _flush_folder(target)


def _files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def remove_written(folder: Path, names: Iterable[str]) -> None:
    """Remove the files of these names from a folder, and the folder if nothing else lies in it."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn whatever a library raises where the disk takes no file into an OSError that names `path`."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _rust_errno(error)
        if number not in UNWRITABLE or (number in (errno.EACCES, errno.EPERM, errno.EIO) and _elsewhere(error, path)):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _rust_errno(error: Exception) -> int | None:
    """Find the number in an error of safetensors, which has it in its text only."""
    found = _RUST.search(str(error))
    return int(found[1]) if found else None


def _elsewhere(error: Exception, path: Path) -> bool:
    """Tell whether an error names a file that was to be read, not written."""
    named = getattr(error, "filename", None)
    return named is not None and path.parent not in Path(os.fsdecode(named)).parents


def unwritable(error: OSError) -> str | None:
    """Say in one line what a disk refused, why, and the cure; None where the error is of another kind."""
    if error.errno not in UNWRITABLE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{os.strerror(error.errno)}; {UNWRITABLE[error.errno]}, then the same command goes on"


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder in `parent` that is gone afterwards; what a killed process left in its place is removed."""
    folder, lock = _held_folder(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield an empty folder among the system's temporary files; those that killed processes left are removed first."""
    clear_scratch(Path(tempfile.gettempdir()), prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=SCRATCH))
    with suppress(NotImplementedError):
        _hold(folder)  # unlocked when this process ends
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_scratch(parent: Path, name: str = ".") -> None:
    """Remove the scratch folders in `parent` whose process has ended, on whichever machine it ran."""
    for folder in parent.glob(f"{name}*{SCRATCH}"):
        _clear(folder)


def _held_folder(parent: Path, name: str) -> tuple[Path, int | None]:
    """Make and lock a folder; its name is always the same, unless a living process has that one."""
    names = (parent / f"{name}{number or ''}{SCRATCH}" for number in count())
    try:
        folder, lock = next((folder, lock) for folder in names if (lock := _hold(folder)) is not None)
    except NotImplementedError:
        return Path(tempfile.mkdtemp(prefix=name, suffix=SCRATCH, dir=parent)), None
    for part in folder.iterdir():
        if part.name != HELD:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
    for further in takewhile(Path.exists, names):
        _clear(further)
    return folder, lock


def _hold(folder: Path) -> int | None:
    """Make a folder and lock it to the end of this process; None where another process lives that has it.

    Raises:
        NotImplementedError: on a file system without locks.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            if not (folder / HELD).exists() and any(folder.iterdir()):  # somebody else's
                return None
            lock = os.open(folder / HELD, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # removed in between
            continue
        except PermissionError:  # another user's
            return None
        except OSError:
            _clear(folder)
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            raise NotImplementedError from None
        os.close(lock)


def _clear(folder: Path) -> None:
    with suppress(OSError):  # a living process has it, or it is another user's, or just gone
        if not (folder / HELD).exists():
            folder.rmdir()
            return
        lock = os.open(folder / HELD, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


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
