"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from video_vae.cli import DISK_STATUS, _guarded
from video_vae.errors import UserError
from video_vae.files import atomic_path, clear_scratch, scratch_folder, sha256_file, temporary_folder

HALF = """
import sys
from video_vae.files import atomic_path
with atomic_path(sys.argv[1]) as aside:
    aside.mkdir()
    (aside / "half").write_text("half")
    sys.stdout.write("writing\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""


def _half_written(target: Path) -> subprocess.Popen[str]:
    """Start a process that is busy writing `target`."""
    command = [sys.executable, "-c", HALF, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_what_killed_writers_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    target = tmp_path / "model"
    first, second = _half_written(target), _half_written(target)
    assert len(list(tmp_path.iterdir())) == 2
    _kill(second)
    with atomic_path(target) as aside:
        aside.mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 and names[1] == "model"
    assert (tmp_path / names[0] / "model" / "half").read_text() == "half"
    _kill(first)
    clear_scratch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_killed_writer_costs_the_next_one_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        _kill(_half_written(tmp_path / "model"))
    with atomic_path(tmp_path / "model") as aside:
        assert not aside.exists()
        aside.write_text("whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model", "whole")]


def test_temporary_folders_of_living_processes_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("logs-") as first, temporary_folder("logs-") as second:
        assert first != second and first.is_dir() and second.is_dir()
    (tmp_path / "logs-killed.part").mkdir()
    with temporary_folder("logs-"), scratch_folder(tmp_path, ".other"):
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


def _text(path: Path) -> None:
    path.write_text("x" * 100_000)


def _tensors(path: Path) -> None:
    # the words of a full disk (/dev/full cannot stand for it: the library writes aside and renames)
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [_text, _tensors])
def test_a_full_disk_is_one_line_that_names_the_file(
    tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "state") as aside:
            aside.symlink_to("/dev/full")
            write(aside)

    assert _guarded("train", fill, debug=False) == DISK_STATUS
    told = f"{tmp_path / 'state'}: No space left on device; free some space, then the same command goes on"
    assert capsys.readouterr().err == f"video-vae train: {told}\n"
    assert not list(tmp_path.iterdir())


def test_an_error_of_reading_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="denied") as raised, atomic_path(tmp_path / "table.csv"):
        raise PermissionError(errno.EACCES, "denied", "/somewhere/clip.mp4")
    assert raised.value.filename == "/somewhere/clip.mp4"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_finished_write_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.csv"
    for content in ("clip,psnr\na,1\n", "clip,psnr\nb,2\n"):
        with atomic_path(target) as aside:
            assert aside.suffix == ".csv"  # writers choose the format by it
            aside.write_text(content)
    assert target.read_text() == "clip,psnr\nb,2\n"
    assert [path.name for path in target.parent.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize("known", [False, True])
def test_a_folder_is_replaced_beside_what_others_put_there(tmp_path: Path, known: bool) -> None:
    target = tmp_path / "model"
    for number in (1, 2):
        with atomic_path(target, known=known) as aside:
            aside.mkdir()
            (aside / "values.json").write_text(f'{{"number": {number}}}')
        assert (target / "values.json").read_text() == f'{{"number": {number}}}'
        (target / "notes.txt").write_text("mine")
    assert sorted(path.name for path in target.iterdir()) == ["notes.txt", "values.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.json", '{"mine": 1}', '{"psnr": 1}'),
        ("a.json", "[1, 2]", '{"psnr": 1}'),
        ("a.csv", "path,text\n", "clip_id,path,frames,height\n"),
        ("a.jsonl", '{"role": "user"}\n', '{"step": 1, "time": 2}\n'),
        ("a.md", "# Mine\n", "# Card\n"),
        ("a.html", "<html>", '<meta name="generator" content="video-vae 1">'),
        ("a.dat", "x", "y"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, old: str, new: str) -> None:
    (tmp_path / name).write_text(old)
    with pytest.raises(UserError, match="was not written by this command"), atomic_path(tmp_path / name) as aside:
        aside.write_text(new)
    assert (tmp_path / name).read_text() == old
    with atomic_path(tmp_path / name, known=True) as aside:
        aside.write_text(new)
    assert (tmp_path / name).read_text() == new


def test_an_empty_file_and_the_same_content_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").touch()  # as mktemp leaves it
    for content in ("x", "x"):
        with atomic_path(tmp_path / "made") as aside:
            aside.write_text(content)
    assert (tmp_path / "made").read_text() == "x"


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
