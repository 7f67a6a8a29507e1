"""Lists of clips as people have them: each kind gives the files and the frames that its publisher means."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path

import pandas
import pytest

from clips import write_video
from video_vae.config import Columns
from video_vae.data.candidates import Found
from video_vae.data.open_table import read_table
from video_vae.data.sources import collect
from video_vae.data.span_frames import frames_of
from video_vae.data.video import MediaError, MediaInfo, probe
from video_vae.errors import UserError

WHOLE = [("a.mp4", 0, 40), ("b.mp4", 0, 30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos at 25 frames per second: a.mp4 of 40 frames, b.mp4 of 30; more in sub, videos and a folder of WebVid."""
    place = tmp_path_factory.mktemp("lists")
    for seed, (name, frames) in enumerate({"a.mp4": 40, "b.mp4": 30, "sub/c d.mp4": 20, "videos/e.mp4": 20}.items()):
        (place / name).parent.mkdir(exist_ok=True)
        write_video(place / name, frames, size=(32, 48), seed=seed)
    (place / "videos" / "006001_006050").mkdir()
    write_video(place / "videos" / "006001_006050" / "21179416.mp4", 20, size=(32, 48), seed=8)
    return place


@lru_cache
def info(path: str) -> MediaInfo:
    return probe(path)


def read(folder: Path, name: str, content: str, columns: Columns | None = None) -> Found:
    (folder / name).write_text(content, encoding="utf-8")
    return collect([str(folder / name)], columns=columns)


def frames(found: Found) -> list[tuple[str, int, int]]:
    return [(Path(item.path).name, *frames_of(item.part, info(item.path))) for item in found.candidates]


def clips(folder: Path, name: str, content: str, columns: Columns | None = None) -> list[tuple[str, int, int]]:
    found = read(folder, name, content, columns)
    assert found.rejected == []
    return frames(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "openvid.csv",
            'video,caption,motion score,frame,fps\na.mp4,"A, b",4.8,200,25.0\nb.mp4,x,1,1,1\n',
        ),
        ("finetrainers.csv", "file_name,prompt\na.mp4,x\nb.mp4,y\n"),
        ("vidtok.csv", "videos\na.mp4\nb.mp4\n"),
        ("spelling.tsv", "ID\tVideo Path\n1\ta.mp4\n2\tb.mp4\n"),
        ("headless.csv", "a.mp4\nb.mp4\n"),
        ("headless_captions.csv", '1,a.mp4,"x, y"\n2,b.mp4,z\n'),
        ("musubi.jsonl", '{"video_path":"a.mp4","caption":"x"}\n\n{"video_path":"b.mp4"}\n'),
        ("records.json", '[{"path":"a.mp4","cap":["x"],"fps":25,"duration":8.0},{"path":"b.mp4","cap":[]}]'),
        ("lines.json", '{"file":"a.mp4"}\n{"file":"b.mp4"}\n'),
        ("list.jsonl", '[\n {"file": "a.mp4"},\n {"file": "b.mp4"}\n]\n'),
        ("paths.json", '["a.mp4", "b.mp4"]'),
        ("wrapped.json", '{"info": {"version": 1}, "videos": [{"video": "a.mp4"}, {"video": "b.mp4"}]}'),
        ("columns.json", '{"path": {"0": "a.mp4", "1": "b.mp4"}, "text": {"0": "x", "1": "y"}}'),
        ("columns_of_lists.json", '{"path": ["a.mp4", "b.mp4"], "text": ["x", "y"]}'),
        ("captions.json", '{"a.mp4": "x", "b.mp4": "y"}'),
        ("by_id.json", '{"a": {"caption": "x"}, "b": {"caption": "y"}}'),
        ("ids.csv", "vid,caption\na,x\nb,y\n"),
        ("messages.jsonl", '{"id": 1, "videos": ["a.mp4"]}\n{"id": 2, "videos": ["b.mp4"]}\n'),
        ("nested.json", '[{"video": {"path": "a.mp4", "bytes": null}}, {"video": {"path": "b.mp4"}}]'),
        ("videos.txt", "# two\na.mp4\r\n\r\nb.mp4"),
        ("labels.txt", "a.mp4 200 7\nb.mp4 80 12\n"),
        ("captions.txt", "a.mp4\tx\nb.mp4|y\n"),
        ("ffmpeg.txt", "ffconcat version 1.0\nfile 'a.mp4'\nduration 1\nfile b.mp4\n"),
        ("slashes.csv", "path,text\n.\\sub\\..\\a.mp4,x\nb.mp4,y\n"),
    ],
)
def test_lists_of_whole_files(folder: Path, name: str, content: str) -> None:
    assert clips(folder, name, content) == WHOLE


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("seconds.csv", "path,start,end,text\na.mp4,0.0,0.4,x\na.mp4,0.8,1.6,y\nb.mp4,0.2,,z\n"),
        ("codes.csv", "path,Start_timestamp,End_timestamp\na,0:00:00.000,0:00:00.400\na,00:00.8,00:01.6\nb,0.2,\n"),
        ("milliseconds.tsv", "file\tstart_ms\tend_ms\na.mp4\t0\t400\na.mp4\t800\t1600\nb.mp4\t200\t\n"),
        ("between.csv", "path,from,to\na.mp4,0,0.4\na.mp4,0.8,1.6\nb.mp4,0.2,1.2\n"),
        ("lengths.csv", "path,begin_sec,duration\na.mp4,0,0.4\na.mp4,0.8,PT0.8S\nb.mp4,0.2,1.0\n"),
        ("frames.csv", "path,start_frame,end_frame,text\na.mp4,0,10,x\na.mp4,20,40,y\nb.mp4,5,30,z\n"),
        ("counts.csv", "path,startFrame,num_frames\na.mp4,0,10\na.mp4,20,20\nb.mp4,5,\n"),
        (
            "index.jsonl",
            '{"path":"a","start_idx":0,"end_idx":10}\n{"path":"a","start_idx":20}\n{"path":"b","start_idx":5}',
        ),
        (
            "scenes.csv",
            "path,id,timestamp,num_frames\n"
            "a.mp4,a,\"[('00:00:00.000', '00:00:00.400'), ('00:00:00.800', '00:00:01.600')]\",200\n"
            "b.mp4,b,\"[('00:00:00.200', '00:00:01.200')]\",80\n",
        ),
        (
            "panda.csv",
            "videoID,url,timestamp,caption,boundaries\n"
            "a,https://host/a,\"[['0:00:00.000', '0:00:00.400'], ['0:00:00.800', '0:00:01.600']]\",\"['x','y']\",[]\n"
            "b,https://host/b,\"[['0:00:00.200', '0:00:01.200']]\",\"['z']\",[]\n",
        ),
        (
            "koala.csv",
            "videoID,url,timestamp\na,https://host/a,\"['0:00:00.000','0:00:00.400']\"\n"
            "a,https://host/a,\"['0:00:00.800','0:00:01.600']\"\nb,https://host/b,\"['0:00:00.200','0:00:01.200']\"\n",
        ),
        (
            "hdvila.jsonl",
            '{"video_id": "a", "clip": [{"span": ["00:00:00", "00:00:00.4"]}, {"span": ["0:0:0.8", "00:00:01.6"]}]}\n'
            '{"video_id": "b", "clip": [{"span": ["00:00:00.200", "00:00:01.200"]}]}\n',
        ),
        (
            "activitynet.json",
            '{"a": {"duration": 1.6, "timestamps": [[0, 0.4], [0.8, 1.6]], "sentences": ["x", "y"]}, '
            '"b": {"duration": 1.2, "timestamps": [[0.2, 1.2]], "sentences": ["z"]}}',
        ),
        ("last.csv", "path,first_frame,last_frame\na.mp4,0,9\na.mp4,20,39\nb.mp4,5,29\n"),
        ("plan.json", '[{"path":"a.mp4","cut":[0,10]},{"path":"a.mp4","cut":[20,40]},{"path":"b.mp4","cut":[5,30]}]'),
    ],
)
def test_lists_of_segments(folder: Path, name: str, content: str) -> None:
    assert clips(folder, name, content) == [("a.mp4", 0, 10), ("a.mp4", 20, 20), ("b.mp4", 5, 25)]


def test_captions_of_several_segments_go_one_to_each(folder: Path) -> None:
    rows = 'videoID,timestamp,caption\na,"[[0, 0.4], [0.8, 1.6]]","[\'x\',\'y\']"\nb,"[[0, 1]]",z\n'
    found = read(folder, "captions.csv", rows)
    assert [item.text for item in found.candidates] == ["x", "y", "z"]
    listed = [{"path": "a", "timestamp": [[0, 0.4], [0.8, 1.6]], "caption": ["x", "y"]}]
    assert [item.text for item in read(folder, "captions.json", json.dumps(listed)).candidates] == ["x", "y"]


def test_parquet_with_lists_and_missing_cells(folder: Path) -> None:
    rows = {
        "video": ["a.mp4", "b.mp4"],
        "timestamps": [[["0:00:00", "0:00:00.4"], ["0.8", "1.6"]], None],
        "n": [1, None],
    }
    pandas.DataFrame(rows).to_parquet(folder / "segments.parquet")
    assert frames(collect([str(folder / "segments.parquet")])) == [
        ("a.mp4", 0, 10),
        ("a.mp4", 20, 20),
        ("b.mp4", 0, 30),
    ]


def test_files_lie_where_their_publishers_put_them(folder: Path) -> None:
    webvid = "videoid,contentUrl,duration,page_dir,name\n21179416,https://host/1.mp4,PT00H00M11S,006001_006050,Shot\n"
    assert clips(folder, "webvid.csv", webvid) == [("21179416.mp4", 0, 20)]
    assert clips(folder, "beside.csv", "video,caption\ne.mp4,x\n") == [("e.mp4", 0, 20)]
    assert clips(folder, "windows.csv", "path\nsub\\c d.mp4\n") == [("c d.mp4", 0, 20)]
    assert clips(folder, "blanks.txt", "sub/c d.mp4 12\n") == [("c d.mp4", 0, 20)]
    address = f"file://{str(folder / 'sub').replace(' ', '%20')}/c%20d.mp4"
    assert clips(folder, "address.csv", f"path\n{address}\n") == [("c d.mp4", 0, 20)]


def test_lists_stand_wherever_a_table_is_asked_for(folder: Path) -> None:
    (folder / "few.txt").write_text("a.mp4\nb.mp4\n", encoding="utf-8")
    (folder / "few.csv").write_text("where\na.mp4\nb.mp4\n", encoding="utf-8")
    tables = [read_table(folder / "few.txt"), read_table(folder / "few.csv", Columns(path="where"))]
    assert [[clip.clip_id for clip in table] for table in tables] == [["a", "b"]] * 2


def test_paths_are_found_from_the_root(folder: Path) -> None:
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / "rooted.csv").write_text("path\nsub/c d.mp4\n", encoding="utf-8")
    found = collect([str(folder / "lists" / "rooted.csv")], root=folder)
    assert frames(found) == [("c d.mp4", 0, 20)]


def test_columns_are_taken_by_name(folder: Path) -> None:
    rows = "path,clip,t0,t1\nold/a.mp4,a.mp4,0,0.4\nold/b.mp4,b.mp4,0.2,1.2\n"
    columns = Columns(path="clip", start="t0", end="t1")
    assert clips(folder, "own.csv", rows, columns) == [("a.mp4", 0, 10), ("b.mp4", 5, 25)]
    whole = "path,start,end\na.mp4,0,0.4\nb.mp4,0,0.4\n"
    assert clips(folder, "own.csv", whole, Columns(start="", end="")) == WHOLE
    with pytest.raises(UserError, match=r"data.columns.start is 'begn', a column that no table in data.sources has"):
        read(folder, "own.csv", whole, Columns(start="begn"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("urls.csv", "url,caption\nhttps://host/a.mp4,x\n", "`url` holds addresses: download the clips"),
        ("video.csv", "video,caption\nhttps://host/a.mp4,x\n", "`video` holds addresses: download the clips"),
        ("other.csv", "clip_location,caption\na.mp4,x\n", "set data.columns: {path: clip_location}"),
        ("bounds.csv", "path,clip_start_est,caption\na.mp4,0.4,x\n", "column `clip_start_est` seems to name parts"),
        ("cuts.csv", 'path,timestamp\na.mp4,"[0.0, 0.4, 1.2]"\n', "column `timestamp` seems to name parts"),
        ("offset.csv", "path,frame_offset,num_frames\na.mp4,5,10\n", "column `frame_offset` seems to name parts"),
        ("broken.json", '[{"path": "a.mp4"},\n{"path": }]', "is not JSON: line 2, column 10"),
        ("broken.jsonl", '{"path": "a.mp4"}\n{"path": \n', "is not JSON: line 2"),
        ("numbers.json", "[1, 2]", "item 1: neither an object with columns nor a path"),
        (
            "two.json",
            '{"videos": [{"video_id": "a"}], "sentences": [{"caption": "x"}]}',
            "several lists (videos, sentences)",
        ),
        ("sheet.xlsx", "PK", "is not a list that can be read; unpack it, or save it as CSV"),
    ],
)
def test_lists_that_cannot_be_read_name_the_cure(folder: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(folder, name, content)
    assert message in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            'videoID,url,timestamp\nnone,https://host/1,"[[0, 1], [1, 2]]"\n',
            "row 2: no such file, with the ending of a video or without",
        ),
        ("path\nC:\\clips\\a.mp4\n", "row 2: a path of another computer; copy the clips here"),
        ("path,start,end\na.mp4,1,0.4\na.mp4,0,1\n", "row 2: end ends at 0.4, not after its start, 1"),
        ("path,start,end\na.mp4,one,2\na.mp4,0,1\n", "row 2: start is 'one', not a time in seconds"),
        ('path,timestamp\na.mp4,noon\na.mp4,"[0, 1]"\n', "row 2: timestamp is 'noon', not a list of [start, end]"),
        ("path,start_frame,end_frame\na.mp4,5,2\n", "row 2: end_frame ends at 2, not after its start, 5"),
    ],
)
def test_rows_that_cannot_be_used_say_why(folder: Path, content: str, reason: str) -> None:
    rejected = read(folder, "rows.csv", content).rejected
    assert len(rejected) == 1 and reason in rejected[0].detail


def test_bytes_in_a_table_are_refused_by_their_row(folder: Path) -> None:
    pandas.DataFrame({"video": [{"bytes": b"x", "path": "a.mp4"}]}).to_parquet(folder / "bytes.parquet")
    assert "holds the bytes of a file" in collect([str(folder / "bytes.parquet")]).rejected[0].detail


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("path,splt\na.mp4,test\nb.mp4,\n", "column `splt` is ignored; if it is `split`"),
        ("path,timestamp\na.mp4,2023-05-01 10:00\nb.mp4,2023-05-02 10:00\n", "column `timestamp` is ignored"),
        ("path,video_path\na.mp4,b.mp4\nb.mp4,a.mp4\n", "column `video_path` is ignored; if it is `path`"),
        (
            "path,start,end,start_frame\na.mp4,0,1.6,3\nb.mp4,0,1.2,3\n",
            "column `start_frame` is ignored, another",
        ),
        ("a.mp4,0,5\nb.mp4,0,5\n", "only its paths are taken, other text is ignored (line 1: 0,5)"),
    ],
)
def test_a_column_that_is_nearly_known_and_ignored_is_said_once(
    folder: Path, rows: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert clips(folder, "near.csv", rows) == WHOLE
    assert [said in record.getMessage() for record in caplog.records] == [True]


def test_usual_columns_are_ignored_in_silence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "path,id,relation,num_frames,height,width,aspect_ratio,fps,resolution,aes,flow,match,duration,frame"
    with caplog.at_level(logging.WARNING):
        assert clips(folder, "usual.csv", f"{header}\na.mp4,{'1,' * 12}1\nb.mp4,{'1,' * 12}1\n") == WHOLE
    assert not caplog.records


def test_segments_past_the_end_say_by_how_much(folder: Path) -> None:
    found = read(folder, "late.csv", "path,start,end\na.mp4,1.2,1.65\na.mp4,0,20\na.mp4,60,62\n")
    rounded, frames_meant, late = (item.part for item in found.candidates)
    assert frames_of(rounded, info(str(folder / "a.mp4"))) == (30, 10)  # rounded up by its list: cut to the file
    with pytest.raises(MediaError, match=r"ends at 20 s, the file at 1.6 s; if frames are meant, name the columns by"):
        frames_of(frames_meant, info(str(folder / "a.mp4")))
    with pytest.raises(MediaError, match=r"ends at 62 s, the file at 1.6 s$"):
        frames_of(late, info(str(folder / "a.mp4")))
