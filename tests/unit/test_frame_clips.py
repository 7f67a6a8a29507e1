"""A folder of numbered frames is a video where a row of a table or `data.sources` names it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import write_video
from video_vae.config import Data, Split
from video_vae.data.build_manifest import build_manifest
from video_vae.data.candidates import Rejected
from video_vae.data.content import MediaError
from video_vae.data.sampling import Sampling
from video_vae.data.sources import collect
from video_vae.data.table import Clip
from video_vae.data.video import read_clip, read_frames
from video_vae.init_project import held_out

DATA = Data(min_frames=5, min_size=16, split=Split(by="segment", segment_frames=10))


def frames(folder: Path, count: int = 12, *, first: int = 1, size: tuple[int, int] = (48, 32)) -> Path:
    """Write frames that are as bright as their numbers, so that their order shows."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", size, (number * 5,) * 3).save(folder / f"frame_{number}.png")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of frames and a video."""
    frames(tmp_path / "shot")
    write_video(tmp_path / "b.mp4", 20, size=(32, 48))
    return tmp_path


def build(*sources: Path, data: Data = DATA) -> tuple[list[Clip], list[Rejected]]:
    return build_manifest(collect([str(source) for source in sources]), data, seed=0, workers=1)


def levels(clip: Clip, indices: list[int] | None = None) -> list[int]:
    return [int(level) // 5 for level in read_clip(clip, indices)[:, 0, 0, 0]]


def test_a_source_that_is_a_folder_of_frames_is_one_video(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        clips, rejected = build(place / "shot", place / "b.mp4")
    clip = next(clip for clip in clips if clip.path.endswith("shot"))
    assert (clip.clip_id, clip.kind, clip.num_frames, clip.height, clip.width) == ("shot", "video", 12, 32, 48)
    assert clip.fps == 25 and not rejected
    assert levels(clip) == list(range(1, 13))  # 2 comes before 10
    assert levels(clip, [11, 3, 3, 0]) == [12, 4, 4, 1]
    assert "holds numbered frames: one video" in caplog.text


def test_a_row_of_a_table_names_frames_their_rate_and_a_part_of_them(place: Path) -> None:
    table = place / "clips.csv"
    table.write_text("path,fps,start,end\nshot,10,0.2,0.8\nb.mp4,10,,\n", encoding="utf-8")
    clip = next(clip for clip in build(table)[0] if clip.path.endswith("shot"))
    assert (clip.fps, clip.start_frame, clip.num_frames, clip.seconds) == (10, 2, 6, 0.6)
    assert levels(clip) == [3, 4, 5, 6, 7, 8]
    assert levels(clip, list(Sampling(fps=5).indices(clip))) == [3, 5, 7]
    (place / "list.txt").write_text("shot 12 3\nb.mp4 20 1\n", encoding="utf-8")
    assert [Path(item.path).name for item in collect([str(place / "list.txt")]).candidates] == ["shot", "b.mp4"]


def test_a_folder_that_is_scanned_holds_images_as_before(place: Path) -> None:
    names = sorted(Path(item.path).name for item in collect([str(place)]).candidates)
    assert names == ["b.mp4", *sorted(f"frame_{number}.png" for number in range(1, 13))]


@pytest.mark.parametrize("change", ["gap", "size", "names", "video", "few"])
def test_a_source_with_other_images_stays_a_folder_of_images(place: Path, change: str) -> None:
    shot = place / "shot"
    if change == "gap":
        (shot / "frame_5.png").unlink()
    elif change == "size":
        Image.new("RGB", (40, 32)).save(shot / "frame_5.png")
    elif change == "names":
        Image.new("RGB", (48, 32)).save(shot / "cover.png")
    elif change == "video":
        write_video(shot / "a.mp4", 20, size=(32, 48), seed=3)
    else:
        for number in range(5, 13):
            (shot / f"frame_{number}.png").unlink()
    assert {Path(item.path).parent.name for item in collect([str(shot)]).candidates} == {"shot"}


def test_frames_that_are_missing_or_of_another_size_are_a_reason(place: Path) -> None:
    (place / "shot" / "frame_5.png").unlink()
    frames(place / "mixed")
    Image.new("RGB", (40, 32)).save(place / "mixed" / "frame_12.png")
    (place / "clips.csv").write_text("path\nshot\nmixed\nb.mp4\n", encoding="utf-8")
    _, rejected = build(
        place / "clips.csv", data=DATA.model_copy(update={"split": Split(by="segment", segment_frames=9)})
    )
    assert [(Path(row.path).name, row.detail) for row in rejected] == [
        ("mixed", "frame 11 has another size than frame 0; scale them to one"),
        ("shot", "frames are missing between frame_4.png and frame_6.png; put them back"),
    ]


def test_a_changed_frame_is_noticed_and_a_copy_is_the_same_content(place: Path) -> None:
    shutil.copytree(place / "shot", place / "copy")
    clips, rejected = build(place / "shot", place / "copy", place / "b.mp4")
    assert [row.reason for row in rejected] == ["duplicate"] and len({clip.source_id for clip in clips}) == 2
    clip = next(clip for clip in clips if clip.kind == "video" and clip.num_frames == 12)
    assert levels(clip, [0]) == [1]
    Image.new("RGB", (48, 32), (255, 0, 0)).save(Path(clip.path) / "frame_7.png")
    with pytest.raises(MediaError, match="changed: its content is not what the table lists"):
        read_clip(clip, [0])


def test_frames_past_the_end_are_refused(place: Path) -> None:
    with pytest.raises(MediaError, match="frame 12 asked for, 12 frames present"):
        read_frames(place / "shot", [12])
    assert np.array_equal(read_frames(place / "shot", [0])[0, 0, 0], [5, 5, 5])


def test_a_project_of_one_folder_of_frames_holds_out_pieces_of_it(place: Path) -> None:
    assert held_out([place / "shot"])["by"] == "segment"
    assert "by" not in held_out([place])
