"""Clips in WebDataset tar shards are read where they lie, as files are; bad shards say what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clips import write_video
from material import make_video_vae
from reading import make_clip
from video_vae.cli import main
from video_vae.config import Data
from video_vae.data.content import MediaError
from video_vae.data.identity import content_sha256
from video_vae.data.images import read_image
from video_vae.data.open_table import read_table
from video_vae.data.probing import probe_files
from video_vae.data.sampling import Sampling
from video_vae.data.sources import collect
from video_vae.data.video import probe, read_clip, read_frames
from video_vae.errors import UserError
from video_vae.files import absence
from video_vae.init_project import held_out
from video_vae.tar_members import open_bytes, read_index
from video_vae.training.datasets import PixelSource
from video_vae.training.plan import Window

SETTINGS = {"min_frames": 5, "min_size": 32}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of 20 frames with different content: five.mp4 is Matroska, six.ts is a transport stream."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(["one.mp4", "two.mp4", "three.mp4", "four.mp4", "five.mkv", "six.ts"]):
        write_video(folder / name, 20, size=(48, 64), seed=seed, options={"g": "6"})
    return folder


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write a tar file with these members, in this order, names repeated as they come."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(videos: Path, key: str, name: str, caption: str = "a cat") -> list[tuple[str, bytes]]:
    """Make the three files of a sample as video2dataset writes them."""
    said = json.dumps({"key": key, "caption": caption, "status": "success"}).encode()
    return [
        (f"{key}{Path(name).suffix}", (videos / name).read_bytes()),
        (f"{key}.json", said),
        (f"{key}.txt", caption.encode()),
    ]


def make_shards(videos: Path, folder: Path) -> Path:
    """Write two shards of two samples each, as video2dataset names them."""
    folder.mkdir()
    write_shard(folder / "00000.tar", sample(videos, "000000001", "one.mp4") + sample(videos, "000000002", "two.mp4"))
    third = sample(videos, "000010001", "three.mp4", 'dogs,\n"two"')
    write_shard(folder / "00001.tar", third + sample(videos, "000010002", "four.mp4"))
    return folder


@pytest.fixture(scope="module")
def listed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards in `shards`, and their tables in `data`."""
    folder = tmp_path_factory.mktemp("listed")
    manifest([str(make_shards(videos, folder / "shards"))], folder / "data")
    return folder


def manifest(sources: list[str], folder: Path) -> list[dict[str, str]]:
    config = json.dumps({"data": {**SETTINGS, "sources": sources, "split": {"test_fraction": 0.25}}})
    assert main(["manifest", config, "--output-dir", str(folder)]) == 0
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    with (folder / "rejected.csv").open(encoding="utf-8", newline="") as stream:
        return {Path(row["path"]).name: (row["reason"], row["detail"]) for row in csv.DictReader(stream)}


def test_a_folder_of_shards_gives_readable_rows_that_read_as_the_files_do(videos: Path, listed: Path) -> None:
    shards = listed / "shards"
    with (listed / "data" / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [
        f"{shards}/{name}"
        for name in (
            "00000.tar::000000001.mp4",
            "00000.tar::000000002.mp4",
            "00001.tar::000010001.mp4",
            "00001.tar::000010002.mp4",
        )
    ]
    assert [row["clip_id"] for row in rows] == ["000000001", "000000002", "000010001", "000010002"]
    assert [row["text"] for row in rows] == ["a cat", "a cat", 'dogs, "two"', "a cat"]
    assert {row["reader"] for row in rows} == {"pyav"}
    for clip, name in zip(read_table(listed / "data" / "manifest.csv"), ["one", "two", "three", "four"], strict=True):
        content = (videos / f"{name}.mp4").read_bytes()
        shard = Path(clip.path.partition("::")[0]).read_bytes()
        assert clip.offset is not None and clip.bytes is not None
        assert shard[clip.offset : clip.offset + clip.bytes] == content
        assert np.array_equal(read_clip(clip, [17, 3, 3]), read_frames(videos / f"{name}.mp4", [17, 3, 3]))


def test_members_of_every_container_and_images_read_as_the_files_do(videos: Path, tmp_path: Path) -> None:
    picture = tmp_path / "still.png"
    Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 30).convert("RGB").save(picture)
    files = [videos / "one.mp4", videos / "five.mkv", videos / "six.ts"]
    members = [(f"./sub/{file.name}", file.read_bytes()) for file in [*files, picture]]
    shard = write_shard(tmp_path / "odd, name :.tar", members)
    for file in files:
        inside = f"{shard}::sub/{file.name}"
        assert probe(inside) == probe(file)
        assert np.array_equal(read_frames(inside, [19, 0, 7]), read_frames(file, [19, 0, 7]))
    assert np.array_equal(read_image(f"{shard}::sub/still.png"), read_image(picture))
    with open_bytes(f"{shard}::sub/one.mp4") as stream:
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == files[0].read_bytes()[-10:]


def test_jobs_do_not_look_through_the_shard_again(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = read_table(listed / "data" / "train.csv")[0]
    monkeypatch.setattr("video_vae.tar_members._known", {})
    monkeypatch.setattr("video_vae.tar_members.read_index", lambda shard: pytest.fail("indexed again"))
    source = PixelSource([clip], (48, 64), Sampling(fps=12.5))
    assert source.read(Window(row=0, start=1, length=3)).shape == (3, 3, 48, 64)


def test_a_changed_shard_is_told_by_what_lies_at_the_place(videos: Path, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", sample(videos, "one", "one.mp4") + sample(videos, "two", "two.mp4"))
    start, size = read_index(shard).members["two.mp4"]
    path = Path(f"{shard}::two.mp4")
    clip = make_clip(path, 20, source_id=content_sha256(path)[:16], offset=start, bytes=size)
    assert len(read_clip(clip, [0, 1])) == 2
    write_shard(shard, sample(videos, "two", "two.mp4"))
    with pytest.raises(MediaError, match="changed: its content is not what the table lists"):
        read_clip(clip, [0])
    shard.unlink()
    with pytest.raises(MediaError, match="missing"):
        read_clip(clip, [0])


def test_latents_of_a_shard_are_those_of_its_files(videos: Path, listed: Path, tmp_path: Path) -> None:
    make_video_vae(tmp_path)
    shutil.copy(videos / "one.mp4", tmp_path / "000000001.mp4")
    latents: list[dict[str, torch.Tensor]] = []
    for clips in (tmp_path / "000000001.mp4", f"{listed}/shards/00000.tar::000000001.mp4"):
        output = tmp_path / f"latents{len(latents)}"
        model = ["--model", str(tmp_path / "model"), "--output", str(output), "--device", "cpu"]
        assert main(["encode", str(clips), *model]) == 0
        latents.append(load_file(next(output.glob("*.safetensors"))))
    assert latents[0].keys() == latents[1].keys() == {"000000001"}
    assert torch.equal(latents[0]["000000001"], latents[1]["000000001"])


def test_a_member_is_reconstructed_by_its_name(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video_vae(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["reconstruct", f"{listed}/shards/00000.tar::000000001.mp4", "--model", "model", "--device", "cpu"]
    for _ in range(2):  # the second time over what the first wrote
        assert main(command) == 0
    assert capsys.readouterr().out.startswith("000000001_rec.mp4: 20 frames, 64x48")


def test_bad_members_are_rejected_one_by_one(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "one.mp4").read_bytes()
    members = [("good.mp4", whole), ("text.mp4", b"no video" * 99), ("empty.mp4", b""), ("cut.mp4", whole[:900])]
    members += [("same.mp4", whole), ("notes.md", b"hello"), ("same.mp4", (videos / "two.mp4").read_bytes())]
    shard = write_shard(tmp_path / "a.tar", members)
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = collect([str(shard)])
    outcomes = probe_files([item.path for item in found.candidates], 1)
    reasons = {Path(path).name: outcome.error.reason for path, outcome in outcomes.items() if outcome.error}
    assert reasons == {"a.tar::text.mp4": "unreadable", "a.tar::empty.mp4": "unreadable", "a.tar::cut.mp4": "truncated"}
    said = {Path(row.path).name: (row.reason, row.detail) for row in found.rejected}
    assert said["a.tar::same.mp4"] == ("duplicate", "the shard holds several members of this name; rename them")
    assert said["a.tar::link.mp4"][1] == "a link or a special file in a shard; store the file itself"
    assert found.skipped == 1


def test_a_truncated_or_damaged_shard_keeps_what_is_whole(videos: Path, tmp_path: Path) -> None:
    shards = make_shards(videos, tmp_path / "shards")
    content = bytearray((shards / "00000.tar").read_bytes())
    last = read_index(shards / "00000.tar").members["000000002.mp4"][0]
    (shards / "cut.tar").write_bytes(content[: last + 700])
    (shards / "short.tar").write_bytes(content[: last - 512])
    content[last - 512 : last - 400] = b"\xff" * 112
    (shards / "damaged.tar").write_bytes(content)
    (shards / "text.tar").write_text("no shard at all\n" * 99)
    (shards / "empty.tar").touch()
    with gzip.open(shards / "packed.tar.gz", "wb") as stream:
        stream.write((shards / "00000.tar").read_bytes())
    shutil.copy(shards / "packed.tar.gz", shards / "disguised.tar")
    (shards / "00000.tar").unlink()
    assert len(manifest([str(shards)], tmp_path / "data")) == 3
    said = rejected(tmp_path / "data")
    assert said["cut.tar::000000002.mp4"][0] == "truncated" and "too early" in said["cut.tar::000000002.mp4"][1]
    assert said["short.tar"] == ("truncated", "the shard has no end mark: members may be missing; copy it again")
    assert said["damaged.tar"][0] == "damaged" and f"byte {last - 512:,}" in said["damaged.tar"][1]
    assert said["text.tar"][0] == "unreadable" and said["text.tar"][1].startswith("not a tar file")
    assert said["empty.tar"][0] == "truncated"
    compressed = "a compressed shard, which allows no random access; "
    assert said["packed.tar.gz"] == ("unreadable", compressed + "gunzip -k packed.tar.gz")
    assert said["disguised.tar"] == ("unreadable", compressed + "unpack it once (gunzip)")


def test_a_compressed_shard_is_refused_where_it_is_named(videos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(videos / "one.mp4", "one.mp4")
    with pytest.raises(UserError, match=r"is a compressed shard, .* gunzip it and name"):
        collect([str(tmp_path / "a.tgz")])


def test_tables_and_commands_name_members(videos: Path, tmp_path: Path) -> None:
    shards = make_shards(videos, tmp_path / "shards")
    table = tmp_path / "clips.csv"
    table.write_text("path,start_frame,end_frame\nshards/00000.tar::000000001.mp4,2,12\nshards/00000.tar::no.mp4,0,9\n")
    (clip,) = read_table(table)
    assert np.array_equal(read_clip(clip), read_frames(videos / "one.mp4", range(2, 12)))
    (named,) = collect([str(shards / "00001.tar::000010001.mp4")]).candidates
    assert named.path.endswith("00001.tar::000010001.mp4")
    with pytest.raises(UserError, match="cannot be read: no member no"):
        collect([str(shards / "00001.tar::no.mp4")])
    assert absence(shards / "none.tar::a.mp4").startswith("does not exist")
    root = Data(root=str(shards)).root
    assert not collect([str(shards / "00001.tar")], root=root).rejected
    assert collect([str(shards / "00001.tar")], root=videos).rejected[0].reason == "outside"


def test_a_single_shard_is_held_out_by_source(videos: Path, tmp_path: Path) -> None:
    """Unlike a single video, of which pieces are held out."""
    shard = write_shard(tmp_path / "a.tar", sample(videos, "one", "one.mp4"))
    assert held_out([shard]) == {"test_fraction": 0.2} != held_out([videos / "one.mp4"])
