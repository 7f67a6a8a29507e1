"""Folders and tables of clips become manifest, train, test and rejected, whatever lies among them."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from PIL import Image

from clips import turn, write_video
from reading import run_first
from video_vae.cli import main
from video_vae.config import Data, Split
from video_vae.data.build_manifest import build_manifest
from video_vae.data.candidates import Found, Rejected
from video_vae.data.open_table import read_table
from video_vae.data.probing import probe_files
from video_vae.data.sources import collect
from video_vae.data.table import COLUMNS, Clip, write_table
from video_vae.errors import UserError

DATA = Data(min_frames=5, min_size=32)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 30 frames with different content: a.mp4, b.mp4, c.mkv, sub/a.mp4."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    for seed, name in enumerate(["a.mp4", "b.mp4", "c.mkv", "sub/a.mp4"]):
        write_video(folder / name, 30, size=(48, 64), seed=seed)
    return folder


def build(found: Found, data: Data = DATA) -> tuple[list[Clip], list[Rejected]]:
    return build_manifest(found, data, seed=0, workers=1)


def write_csv(path: Path, *lines: str, ending: str = "\n") -> str:
    path.write_bytes(ending.join([*lines, ""]).encode())
    return str(path)


def test_a_folder_with_broken_files_gives_the_usable_ones_and_the_reasons(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    (folder / "copy.mp4").write_bytes((videos / "a.mp4").read_bytes())
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video\n")
    (folder / "cut.mp4").write_bytes((videos / "a.mp4").read_bytes()[:2000])
    (folder / "link.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "song.mp3").write_bytes(b"ID3")
    (folder / "notes.txt").write_text("shot on Monday")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes((videos / "c.mkv").read_bytes())
    write_video(folder / "short.mp4", 3)
    write_video(folder / "small.mp4", 9, size=(16, 64))
    config = f"data: {{sources: [{folder}], min_frames: 5, min_size: 32}}\n"
    (tmp_path / "config.yaml").write_text(config)
    command = [sys.executable, "-m", "video_vae", "manifest", "config.yaml", "--output-dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    with (tmp_path / "out" / "rejected.csv").open(encoding="utf-8") as stream:
        reasons = {Path(row["path"]).name: row["reason"] for row in csv.DictReader(stream)}
    assert reasons == {
        r"caf\xe9.mp4": "unreadable",
        "copy.mp4": "duplicate",
        "cut.mp4": "truncated",
        "empty.mp4": "unreadable",
        "link.mp4": "missing",
        "short.mp4": "too short",
        "small.mp4": "too small",
        "song.mp3": "unreadable",
        "text.mp4": "unreadable",
    }
    clips = read_table(tmp_path / "out" / "manifest.csv")
    assert [clip.clip_id for clip in clips] == ["a", "b"]
    sides = {side: read_table(tmp_path / "out" / f"{side}.csv") for side in ("train", "test")}
    assert sides["train"] + sides["test"] == sorted(clips, key=lambda clip: clip.split, reverse=True)
    assert "2 clips of 2 files (1 train, 1 test), 9 rejected" in done.stdout
    assert "1 other files" in done.stderr


def test_the_same_sources_give_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    for name in ("first.csv", "second.csv"):
        write_table(tmp_path / name, build(collect([str(videos)]))[0])
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
    header = (tmp_path / "first.csv").read_text().splitlines()[0]
    assert header == ",".join(COLUMNS)


def test_ids_are_readable_unique_and_safe_as_filenames(videos: Path, tmp_path: Path) -> None:
    odd = tmp_path / "Été à la mer (1).mp4"
    odd.write_bytes(write_video(tmp_path / "x.mp4", 20, seed=9).read_bytes())
    clips, _ = build(collect([str(videos), str(odd)]))
    ids = [clip.clip_id for clip in clips]
    assert len(set(ids)) == 5
    assert {"b", "c", "Ete-a-la-mer-1"} < set(ids)
    assert sum(re.fullmatch(r"a-[0-9a-f]{6}", name) is not None for name in ids) == 2  # a.mp4 and sub/a.mp4


def test_tables_from_windows_and_open_sora_are_understood(videos: Path, tmp_path: Path) -> None:
    table = write_csv(
        tmp_path / "clips.csv",
        "\ufeffpath,text,num_frames,height,width,aspect_ratio,fps,resolution",
        f'{videos}/a.mp4,"a wave, ""slowly""",99,1,1,1,1,1',
        f"{videos}/b.mp4,,,,,,,",
        f"{videos}/b.mp4,,,,,,,",
        f"{videos}/gone.mp4,,,,,,,",
        ending="\r\n",
    )
    clips, rejected = build(collect([table]))
    assert [(clip.text, clip.num_frames, clip.height) for clip in clips] == [('a wave, "slowly"', 30, 48), ("", 30, 48)]
    assert [(row.reason, Path(row.path).name) for row in rejected] == [("duplicate", "b.mp4"), ("missing", "gone.mp4")]


def test_semicolons_and_parquet_are_understood(videos: Path, tmp_path: Path) -> None:
    semicolons = write_csv(tmp_path / "clips.csv", "path;split", f"{videos}/a.mp4;test", f"{videos}/b.mp4;")
    assert [clip.split for clip in build(collect([semicolons]))[0]] == ["test", "train"]
    rows = {"path": [f"{videos}/a.mp4", f"{videos}/b.mp4"], "text": ["hello", None], "num_frames": [30, float("nan")]}
    pandas.DataFrame(rows).to_parquet(tmp_path / "clips.parquet")
    assert [clip.text for clip in build(collect([str(tmp_path / "clips.parquet")]))[0]] == ["hello", ""]


def test_paths_are_found_beside_the_table_then_from_the_working_folder_then_among_packages(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "packages" / "films").mkdir(parents=True)
    for source, target in (("a.mp4", "tables/x.mp4"), ("b.mp4", "y.mp4"), ("c.mkv", "packages/films/z.mkv")):
        (tmp_path / target).write_bytes((videos / source).read_bytes())
    write_csv(tmp_path / "tables" / "clips.csv", "path", "x.mp4", "y.mp4", "films/z.mkv", "~/none.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nowhere")
    found = collect(["tables/clips.csv"], ["films"], "packages")  # the package is not scanned a second time
    paths = [item.path for item in found.candidates]
    assert paths == ["tables/x.mp4", "y.mp4", "packages/films/z.mkv", "/nowhere/none.mp4"]


def test_declared_segments_are_clips_of_their_own(videos: Path, tmp_path: Path) -> None:
    table = write_csv(
        tmp_path / "clips.csv",
        "path,start_frame,num_frames,split",
        f"{videos}/a.mp4,0,10,train",
        f"{videos}/a.mp4,10,10,test",
        f"{videos}/a.mp4,10,10,test",
        f"{videos}/a.mp4,25,10,",
        f"{videos}/a.mp4,20,,",
        f"{videos}/a.mp4,ten,10,",
    )
    clips, rejected = build(collect([table]), DATA.model_copy(update={"split": Split(by="segment", test_fraction=0)}))
    assert [(clip.clip_id, clip.num_frames, clip.split) for clip in clips] == [
        ("a_f000000", 10, "train"),
        ("a_f000010", 10, "test"),
        ("a_f000020", 10, "train"),
    ]
    assert sorted((row.reason, row.detail) for row in rejected) == [
        ("duplicate", "listed twice"),
        ("too short", "the segment needs 10 frames from 25, the file has 30"),
        ("unreadable", f"{table}, row 7: start_frame is 'ten', not a number of frames"),
    ]


def test_splitting_by_segment_cuts_whole_videos(videos: Path) -> None:
    split = Split(by="segment", segment_frames=12, test_fraction=0.3)
    clips, _ = build(collect([str(videos / "b.mp4")]), DATA.model_copy(update={"split": split}))
    assert [(clip.clip_id, clip.num_frames) for clip in clips] == [
        ("b_f000000", 12),
        ("b_f000012", 12),
        ("b_f000024", 6),
    ]
    assert sum(clip.split == "test" for clip in clips) == 1


def test_the_frame_interval_counts_for_the_fewest_frames(videos: Path) -> None:
    data = Data(min_frames=16, frame_interval=2, min_size=32)  # 16 of every second frame span 31
    with pytest.raises(UserError, match="no usable clip among 4 files: 4 too short"):
        build(collect([str(videos)]), data)
    assert len(build(collect([str(videos)]), data.model_copy(update={"min_frames": 15}))[0]) == 4


def test_images_and_videos_mix(videos: Path, tmp_path: Path) -> None:
    Image.effect_noise((80, 60), 50).save(tmp_path / "photo.png")
    clips, _ = build(collect([str(videos), str(tmp_path)]))
    image = next(clip for clip in clips if clip.kind == "image")
    assert (image.num_frames, image.height, image.width, image.fps, image.split) == (1, 60, 80, None, "train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["score,text", "0.5,x"], "no column `path` .it has score, text."),
        (["path", "https://host/a.mp4"], "row 2: https://host/a.mp4 is an address; download"),
        (["path,split", "a.mp4,val"], "row 2: split is 'val'; use train or test"),
        ([""], "no video or image|is empty"),
    ],
)
def test_tables_that_cannot_be_used_name_the_cure(tmp_path: Path, lines: list[str], message: str) -> None:
    table = write_csv(tmp_path / "clips.csv", *lines)
    with pytest.raises(UserError, match=message):
        build(collect([table]))


def test_sources_that_cannot_be_used_name_the_cure(tmp_path: Path) -> None:
    for sources, message in (
        ([], "data.sources is empty"),
        ([str(tmp_path / "none")], "does not exist"),
        (["s3://bucket/clips"], "download"),
        ([str(tmp_path)], "no video or image in data.sources"),
    ):
        with pytest.raises(UserError, match=message):
            build(collect(sources))


def test_where_nothing_is_left_to_hold_out_the_reasons_are_written_and_said(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "sub/a.mp4"):
        (tmp_path / "clips" / name.replace("/", "-")).write_bytes((videos / name).read_bytes())
    (tmp_path / "clips" / "empty.mp4").write_bytes(b"")
    command = [sys.executable, "-m", "video_vae", "manifest", "--output-dir", str(tmp_path / "out")]
    for least, kept in ((31, "no usable clip among 3 files: 2 too short, 1 unreadable"), (5, "no video is left")):
        settings = f'{{"data": {{"sources": ["{tmp_path / "clips"}"], "min_frames": {least}, "min_size": 32}}}}'
        done = subprocess.run([*command, settings], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and kept in done.stderr
        rows = (tmp_path / "out" / "rejected.csv").read_text(encoding="utf-8")
        assert f"{tmp_path}/clips/empty.mp4,unreadable,empty file (0 bytes)" in rows
        assert not (tmp_path / "out" / "manifest.csv").exists()
        (tmp_path / "clips" / "sub-a.mp4").unlink(missing_ok=True)
    assert "; 1 were rejected: 1 unreadable (rejected.csv tells more)" in done.stderr


def test_a_table_with_one_file_on_both_sides_is_warned_of(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("path,start_frame,num_frames,split", f"{videos}/a.mp4,0,10,train", f"{videos}/a.mp4,10,10,test")
    table = write_csv(tmp_path / "clips.csv", *rows)
    settings = f'{{"data": {{"sources": ["{table}"], "min_frames": 5, "min_size": 32}}}}'
    assert main(["manifest", settings, "--output-dir", str(tmp_path / "out"), "--workers", "1"]) == 0
    said = f"1 of 1 held-out clips come from files that are also trained on ({videos}/a.mp4)"
    assert f"not held out by source: {said}" in capsys.readouterr().err


def test_nothing_usable_names_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.mp4").write_text("text")
    with pytest.raises(UserError, match=r"no usable clip among 2 files: 2 unreadable; for example .*a\.mp4: empty"):
        build(collect([str(tmp_path)]))


def test_a_decoder_that_crashes_or_hangs_costs_one_file(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, time\n"
        "from video_vae.data import video\n"
        "look = video.probe\n"
        "def probe(path):\n"
        "    if path.endswith('b.mp4'): os.abort()\n"
        "    if path.endswith('c.mkv'): time.sleep(60)\n"
        "    return look(path)\n"
        "video.probe = probe\n"
    )
    run_first(code, tmp_path, monkeypatch)
    first, crashing, hanging, last = (str(videos / name) for name in ("a.mp4", "b.mp4", "c.mkv", "sub/a.mp4"))
    outcomes = probe_files([first, crashing, last], workers=1)
    assert [str(outcomes[path].error or "") for path in (first, crashing, last)] == [
        "",
        "unreadable: the decoder crashed (SIGABRT)",
        "",
    ]
    outcome = probe_files([hanging], workers=1, limit=2)[hanging]
    assert str(outcome.error) == "unreadable: no answer from the decoder within 2 s"


def test_a_bare_table_of_paths_can_stand_for_a_manifest(videos: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "paths.csv", "path", f"{videos}/a.mp4", f"{videos}/gone.mp4")
    assert [(clip.clip_id, clip.num_frames) for clip in read_table(Path(table))] == [("a", 30)]
    assert len(read_table(videos)) == 4


def test_a_manifest_reads_back_as_it_was(videos: Path, tmp_path: Path) -> None:
    clips, _ = build(collect([str(videos)]))
    write_table(tmp_path / "manifest.csv", clips)
    again = read_table(tmp_path / "manifest.csv")
    assert again == clips
    assert read_table(tmp_path / "manifest.csv") == build(collect([str(tmp_path / "manifest.csv")]))[0]


def test_the_manifest_says_what_is_done_with_a_file_and_older_tables_are_read(tmp_path: Path) -> None:
    turn(write_video(tmp_path / "phone.mp4", 8), (0, 1, -1, 0))
    write_video(tmp_path / "plain.mp4", 8, seed=1)
    clips, _ = build(collect([str(tmp_path)]))
    write_table(tmp_path / "new.csv", clips)
    assert [clip.handling for clip in read_table(tmp_path / "new.csv")] == ["turned", ""]
    rows = [line.rsplit(",", 4)[0] for line in (tmp_path / "new.csv").read_text().splitlines()]
    older = write_csv(tmp_path / "older.csv", *rows)
    assert [(clip.clip_id, clip.handling) for clip in read_table(older)] == [("phone", ""), ("plain", "")]
