"""A corpus of broken and odd media, made from seeds: each file is used as it is meant, or rejected with a reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clips import decode_in_order
from faults.bad_media import Odd, make_corpus
from reading import run_first
from video_vae.data.probing import Outcome, probe_files
from video_vae.data.readers import LIMIT_MEMORY
from video_vae.data.suffixes import IMAGE_SUFFIXES
from video_vae.data.video import MediaError, read_frames, read_image

SECONDS = 30.0
"""Far more than any of these small files takes: one that is still being decoded then hangs."""
MIN_FILES = 100


def _judge(files: list[Odd], outcomes: dict[str, Outcome]) -> None:
    for file in files:
        info, error = outcomes[str(file.path)].info, outcomes[str(file.path)].error
        assert (info is None) != (error is None), file
        if error is not None:
            assert error.detail and "no answer" not in error.detail and "crashed" not in error.detail, (file, error)
            assert "Error:" not in error.detail, (file, error)  # an exception that nobody thought of
        assert file.expected in ("either", "used" if info else "rejected"), (file, error)
        if info is not None and file.expected == "used":
            assert (info.num_frames, info.height, info.width) == (file.frames, *file.size), file


def _read_again(files: list[Odd], outcomes: dict[str, Outcome]) -> None:
    """Read what was found good as the later jobs do."""
    for file in files:
        info = outcomes[str(file.path)].info
        if info is None:
            continue
        if file.path.suffix in IMAGE_SUFFIXES:
            assert read_image(file.path).shape == (1, info.height, info.width, 3)
            continue
        frames = read_frames(file.path, range(info.num_frames))
        assert frames.shape == (info.num_frames, info.height, info.width, 3), file
        if file.expected == "used" and file.kind != "rotated":
            assert np.array_equal(frames, decode_in_order(file.path)), file


def _table(files: list[Odd], outcomes: dict[str, Outcome]) -> str:
    lines = ["| kind | files | used | rejected | why |", "| --- | --- | --- | --- | --- |"]
    for kind in dict.fromkeys(file.kind for file in files):
        found = [outcomes[str(file.path)] for file in files if file.kind == kind]
        used = sum(outcome.info is not None for outcome in found)
        reasons = Counter(outcome.error.reason for outcome in found if outcome.error)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        lines.append(f"| {kind} | {len(found)} | {used} | {len(found) - used} | {why} |")
    used = sum(outcome.info is not None for outcome in outcomes.values())
    return "\n".join([*lines, f"| all | {len(files)} | {used} | {len(files) - used} | |"])


def test_every_file_of_a_corpus_is_used_or_rejected(tmp_path: Path) -> None:
    files = make_corpus(tmp_path / "corpus", seed=15)
    assert len(files) >= MIN_FILES
    before = sorted(path.name for path in tmp_path.rglob("*"))
    sampled = probe_files([str(file.path) for file in files], workers=2, limit=SECONDS)
    _judge(files, sampled)
    every = probe_files([str(file.path) for file in files], workers=2, limit=SECONDS, every_frame=True)
    _judge(files, every)
    assert all(sampled[path].info == outcome.info for path, outcome in every.items() if outcome.info)
    _read_again(files, every)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_twenty_more_corpora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [file for seed in range(1, 21) for file in make_corpus(tmp_path / str(seed), seed)]
    outcomes = probe_files([str(file.path) for file in files], workers=2, limit=SECONDS, every_frame=True)
    _judge(files, outcomes)
    _read_again(files, outcomes)
    with capsys.disabled():
        print(f"\n{_table(files, outcomes)}")  # noqa: T201 (what docs/reliability.md shows)


def test_a_decoder_that_takes_all_memory_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from video_vae.data import video\n"
        "look = video.probe\n"
        "def probe(path):\n"
        f"    bytearray({LIMIT_MEMORY + (1 << 26)}) if 'greedy' in path else None\n"
        "    return look(path)\n"
        "video.probe = probe\n"
    )
    run_first(code, tmp_path, monkeypatch)
    files = [str(tmp_path / name) for name in ("greedy.mp4", "gone.mp4")]
    outcomes = probe_files(files, workers=1)
    assert str(outcomes[files[0]].error) == "unreadable: decoding it takes more than 4 GiB of memory"
    assert str(outcomes[files[1]].error) == "missing: no such file"


def test_a_name_that_ffmpeg_would_take_for_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_corpus(tmp_path / "corpus", seed=0, share=0.1)
    for name in ("pipe:0", "data:text,plain", "concat:a|b.mp4", "%03d.mp4"):
        Path(name).write_bytes((tmp_path / "corpus" / "base.mp4").read_bytes())
        assert len(read_frames(name, [0, 29])) == 2
        with pytest.raises(MediaError, match="missing"):
            read_frames(f"{name}x", [0])
