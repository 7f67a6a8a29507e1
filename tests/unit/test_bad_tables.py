"""Tables of clips from anywhere: each row is used, or rejected with a reason, or one line says what to fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clips import write_video
from video_vae.config import Data, Split
from video_vae.data.build_manifest import build_manifest
from video_vae.data.candidates import Rejected
from video_vae.data.open_table import read_table
from video_vae.data.sources import collect
from video_vae.data.table import COLUMNS, Clip, write_table
from video_vae.errors import UserError

DATA = Data(min_frames=5, min_size=32)
NAMES = ("a.mp4", "b.mp4", 'ü, "x".mp4', "two\nlines.mp4", " led and trailed .mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 20 frames with different content, two of them with plain names; one lies outside."""
    place = tmp_path_factory.mktemp("outer") / "inner"
    place.mkdir()
    for seed, name in enumerate([*NAMES, "../outside.mp4"]):
        write_video(place / "x.mp4", 20, size=(64, 64), seed=seed).rename(place / name)
    return place


def read(folder: Path, content: bytes | str, root: Path | None = None) -> tuple[list[Clip], list[Rejected]]:
    table = folder / "clips.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return build_manifest(collect([str(table)], root=root), DATA, seed=0, workers=1)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfpath,text\r\na.mp4,x\r\nb.mp4,y\r\n",
        b"path\ttext\na.mp4\tx\nb.mp4\ty\n",
        b" path ; text \n a.mp4 ; x\n b.mp4 ;y\n",
        b"path,text\ra.mp4,x\rb.mp4,y\r",
        b'"path","text","num_frames"\n"a.mp4","x","nan"\n"b.mp4","y","1e999"\n',
        b"path,text\na.mp4,x,more,cells\n\nb.mp4,y\n",
        b"path,text,num_frames,height\na.mp4,x,999,1\nb.mp4,y,-3,none\n",
    ],
)
def test_the_ways_in_which_programs_write_a_csv_are_understood(folder: Path, content: bytes) -> None:
    clips, rejected = read(folder, content)
    assert [(Path(clip.path).name, clip.text, clip.num_frames) for clip in clips] == [
        ("a.mp4", "x", 20),
        ("b.mp4", "y", 20),
    ]
    assert rejected == []


def test_names_may_hold_anything_that_a_file_name_can(folder: Path, tmp_path: Path) -> None:
    rows = ["path,text"] + ['"' + name.replace('"', '""') + '","a,\nb"' for name in NAMES]
    clips, rejected = read(folder, "\n".join(rows))
    assert {Path(clip.path).name for clip in clips} == set(NAMES) and rejected == []
    write_table(tmp_path / "again.csv", clips)
    assert read_table(tmp_path / "again.csv") == clips


def test_rows_that_cannot_be_used_are_rejected_one_by_one(folder: Path) -> None:
    rows = ["a\0.mp4", "a/" * 3000, "~nobody-of-this-name/a.mp4", "rtsp:x", "pipe:0", "concat:a.mp4|b.mp4", "/dev/zero"]
    rows += ["/etc/passwd", "clips.csv", ".", "a.mp4", "a.mp4", "./a.mp4", "b.mp4", "../outside.mp4", '""']
    clips, rejected = read(folder, "\n".join(["path", *rows]))
    assert [clip.clip_id for clip in clips] == ["a", "b"]
    assert len(rejected) == len(rows) - 2 and all(row.detail for row in rejected)
    assert {row.reason for row in rejected} == {"unreadable", "missing", "duplicate", "outside"}


def test_segments_with_impossible_numbers_are_rejected_by_their_row(folder: Path) -> None:
    starts = ["nan", "inf", "-1", "1e400", "9" * 400, "ten", "0.5", "18", "1e2"]
    rows = [f"a.mp4,{start},5" for start in starts] + [
        "b.mp4,0,inf",
        "b.mp4,0,1e30",
        "b.mp4,0,0",
        "a.mp4,0,",
        "b.mp4,0,",
    ]
    clips, rejected = read(folder, "\n".join(["path,start_frame,num_frames", *rows]))
    assert [(clip.clip_id, clip.num_frames) for clip in clips] == [("a", 20), ("b", 20)]
    assert len(rejected) == len(rows) - 2
    assert all("row" in row.detail or "the segment needs" in row.detail for row in rejected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,path\na.mp4,b.mp4\n", "has two columns `path`; leave one out"),
        (
            b"score,text\n0.5,x\n",
            "has no column `path` (it has score, text); name the one with the files",
        ),
        (b"where,text\na.mp4,x\n", "`where` holds names of files: set data.columns: {path: where}"),
        ("path\na.mp4\n".encode("utf-16"), "is not UTF-8; save it as UTF-8 CSV"),
        ("path\né.mp4\n".encode("latin-1"), "is not UTF-8; save it as UTF-8 CSV"),
        (b'path,text\na.mp4,"open' + b"x" * 200_000, "is a quotation mark missing"),
        (b"path\nhttps://host/a.mp4\n", "row 2: https://host/a.mp4 is an address; download the clips"),
        (b"path\na.mp4\ns3://bucket/b.mp4\n", "row 3: s3://bucket/b.mp4 is an address"),
        (b"", "is empty; give a CSV with a `path` column"),
        (b"path\n", "no video or image in data.sources"),
    ],
)
def test_a_table_that_cannot_be_read_names_the_cure(folder: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(folder, content)
    assert message in str(error.value) and str(error.value).isprintable()


def test_ids_given_twice_are_told_apart_and_unsafe_ones_replaced(folder: Path) -> None:
    clips, _ = read(folder, 'path,clip_id\na.mp4,same\nb.mp4,Same\n"ü, ""x"".mp4",../../escape\n')
    names = [clip.clip_id for clip in clips]
    assert len({name.lower() for name in names}) == 3 and "u-x" in names
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_paths_stay_in_the_folder_of_the_table_unless_a_root_allows_more(folder: Path) -> None:
    rows = f"path\na.mp4\nb.mp4\nx/../../outside.mp4\n{folder}/../outside.mp4\n"
    (folder / "x").mkdir(exist_ok=True)
    _, rejected = read(folder, rows)
    assert [(row.path, row.reason) for row in rejected] == [("x/../../outside.mp4", "outside")]
    clips, rejected = read(folder, rows, root=folder.parent)
    assert len(clips) == 3 and [row.reason for row in rejected] == ["duplicate"]
    clips, rejected = read(folder, rows, root=folder)
    assert len(clips) == 2 and [row.reason for row in rejected] == ["outside", "outside"]
    assert "set data.root to a wider folder" in rejected[0].detail


def test_links_that_leave_the_root_are_rejected(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (root / name).write_bytes((folder / name).read_bytes())
    (root / "link.mp4").symlink_to(folder / "../outside.mp4")
    (root / "linked").symlink_to(folder)
    found = collect([str(root)], root=root)
    assert {os.path.relpath(item.path, root) for item in found.candidates} == {"a.mp4", "b.mp4"}
    assert {row.reason for row in found.rejected} == {"outside"} and len(found.rejected) == 1 + len(NAMES)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("clip_id", "../../escape", "clip_id is '../../escape', not a name for files"),
        ("clip_id", "", "clip_id is '', not a name for files"),
        ("num_frames", "-3", "num_frames is -3, which no file has"),
        ("num_frames", "9" * 40, "which no file has"),
        ("start_frame", "-1", "start_frame is -1, which no file has"),
        ("height", "0", "height is 0, which no file has"),
        ("width", "1e3", "make the table again"),
        ("fps", "nan", "fps is nan"),
        ("fps", "-1", "fps is -1"),
        ("aspect_ratio", "inf", "aspect_ratio is inf"),
        ("kind", "sound", "kind is 'sound', not video or image"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(
    folder: Path, tmp_path: Path, column: str, value: str, message: str
) -> None:
    clips, _ = read(folder, "path\na.mp4\nb.mp4\n")
    table = tmp_path / "manifest.csv"
    write_table(table, clips)
    header, first, *rest = table.read_text(encoding="utf-8").splitlines()
    cells = first.split(",")
    cells[COLUMNS.index(column)] = value
    table.write_text("\n".join([header, ",".join(cells), *rest]), encoding="utf-8")
    with pytest.raises(UserError, match=r"row 2: ") as error:
        read_table(table)
    assert message in str(error.value)


def test_a_manifest_with_one_name_for_two_rows_is_refused(folder: Path, tmp_path: Path) -> None:
    clips, _ = read(folder, "path\na.mp4\nb.mp4\n")
    write_table(tmp_path / "manifest.csv", [*clips, clips[0]])
    with pytest.raises(UserError, match="clip_id a names 2 rows"):
        read_table(tmp_path / "manifest.csv")


def test_a_hundred_thousand_rows_are_told_apart(folder: Path) -> None:
    rows = [f'{"ab"[index % 2]}.mp4,{index % 15},5,"row {index}, ""q"""' for index in range(100_000)]
    (folder / "many.csv").write_text("\n".join(["path,start_frame,num_frames,text", *rows]), encoding="utf-8")
    data = DATA.model_copy(update={"split": Split(by="segment", test_fraction=0.2)})
    clips, rejected = build_manifest(collect([str(folder / "many.csv")]), data, seed=0, workers=1)
    assert len(clips) == 30 and len(rejected) == 100_000 - 30
    assert {row.detail for row in rejected} == {"listed twice"}
