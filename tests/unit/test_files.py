"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from video_vae.files import atomic_path, sha256_file


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_finished_write_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "clip.mp4"
    for content in ("first", "second"):
        with atomic_path(target) as aside:
            assert aside.suffix == ".mp4"  # writers choose the format by it
            aside.write_text(content)
    assert target.read_text() == "second"
    assert [path.name for path in target.parent.iterdir()] == ["clip.mp4"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("old.txt", "new.txt"):
        with atomic_path(target) as aside:
            aside.mkdir()
            (aside / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_made_private_by_their_writer_become_readable(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with atomic_path(tmp_path / "weights.bin") as aside:
        aside.write_bytes(b"1")
        aside.chmod(0o600)
    assert (tmp_path / "weights.bin").stat().st_mode & 0o777 == 0o644


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "data").write_bytes(content)
    assert sha256_file(tmp_path / "data") == hashlib.sha256(content).hexdigest()
