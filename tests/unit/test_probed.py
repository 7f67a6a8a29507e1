"""A listing that was killed goes on where it was, and one made again looks only into what is new or changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clips import write_video
from video_vae.cli import main
from video_vae.data.probed import PROBED, read_probed

SETTINGS = '{"data": {"sources": ["%s"], "min_frames": 5, "min_size": 16, "split": {"test_fraction": 0.3}}}'
TABLES = ("manifest.csv", "rejected.csv", "train.csv", "test.csv")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(4):
        write_video(folder / f"{number}.mp4", 6, size=(16, 32), seed=number)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


def listing(clips: Path, output: Path) -> list[str]:
    return ["manifest", SETTINGS % clips, "--output-dir", str(output), "--workers", "1"]


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


def test_only_new_and_changed_files_are_looked_into_again(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "data"
    assert main(listing(clips, output)) == 0
    before = tables(output)
    capsys.readouterr()
    assert main(listing(clips, output)) == 0
    assert "4 of 5 files are as they were" in capsys.readouterr().err
    assert tables(output) == before
    # another file of the same name, size and date
    status = (clips / "0.mp4").stat()
    content = (clips / "0.mp4").read_bytes()
    (clips / "0.mp4").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(clips / "0.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
    (clips / "1.mp4").unlink()
    write_video(clips / "new.mp4", 6, size=(16, 32), seed=9)
    assert main(listing(clips, output)) == 0
    assert "2 of 5 files are as they were" in capsys.readouterr().err
    assert main(listing(clips, tmp_path / "fresh")) == 0
    assert tables(output) == tables(tmp_path / "fresh") != before
    assert {Path(path).name for path in read_probed(output / PROBED)} == {"0.mp4", "2.mp4", "3.mp4", "new.mp4"}


def test_a_killed_listing_goes_on(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10, 60):
        write_video(clips / f"{number}.mp4", 6, size=(16, 32), seed=number)
    output = tmp_path / "data"
    command = [sys.executable, "-m", "video_vae", *listing(clips, output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(read_probed(output / PROBED)) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with (output / PROBED).open("a", encoding="utf-8") as stream:
        stream.write('{"path": "half a li')
    known = len(read_probed(output / PROBED))
    assert known >= 3 and not (output / "manifest.csv").exists()
    assert main(listing(clips, output)) == 0
    assert f"{known} of 55 files are as they were" in capsys.readouterr().err
    assert main(listing(clips, tmp_path / "fresh")) == 0
    assert tables(output) == tables(tmp_path / "fresh")
