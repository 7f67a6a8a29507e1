"""What edit lists, joined files and odd containers show is read as a player shows it, in order and at random places."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clips import cut, decode_in_order, set_edits, video_stream, write_video
from reading import assert_reads_as
from video_vae.config import Data
from video_vae.data.build_manifest import build_manifest
from video_vae.data.sources import collect
from video_vae.data.video import MediaError, probe

FRAMES = 60
H264, OPEN_H264 = {"bf": "3", "g": "12"}, {"bf": "3", "g": "12", "x264-params": "open-gop=1"}
HEVC = "log-level=none:keyint=12:min-keyint=12:bframes=3"
CODED = {
    "h264 closed": ("libx264", H264),
    "h264 open": ("libx264", OPEN_H264),
    "hevc closed": ("libx265", {"x265-params": f"{HEVC}:open-gop=0"}),
    "hevc open": ("libx265", {"x265-params": f"{HEVC}:open-gop=1"}),
}
EDITS = {
    "the first frames": [(17, 60)],
    "the last frames": [(0, 31)],
    "at both ends": [(17, 25)],
    "from a key frame": [(24, 20)],
    "from ahead of a key frame": [(23, 20)],
    "two parts": [(7, 10), (30, 12)],
    "two parts, the later first": [(30, 12), (7, 10)],
    "one part twice": [(10, 10), (10, 10)],
}


def remux(
    source: Path,
    target: Path,
    *,
    first: int = 0,
    offset: float = 0.0,
    hold: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy packets from the `first` on, `offset` seconds later, the last frame held for `hold` more seconds."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size][first:]
        base = float(packets[0].time_base or 1)
        last = max(packets, key=lambda packet: packet.pts or 0)
        last.duration = (last.duration or 0) + round(hold / base)
        for packet in packets:
            packet.pts = (packet.pts or 0) + round(offset / base)
            packet.dts = (packet.dts or 0) + round(offset / base)
            packet.stream = stream
            written.mux(packet)
    return target


@pytest.mark.parametrize("edits", EDITS)
@pytest.mark.parametrize("coded", CODED)
def test_an_edit_list_keeps_what_it_says(tmp_path: Path, coded: str, edits: str) -> None:
    codec, options = CODED[coded]
    suffix = ".mov" if len(edits) % 2 else ".mp4"
    path = write_video(tmp_path / f"a{suffix}", FRAMES, size=(64, 64), codec=codec, options=options)
    whole = decode_in_order(path)
    set_edits(path, EDITS[edits])
    kept = [index for first, count in EDITS[edits] for index in range(first, min(first + count, FRAMES))]
    assert_reads_as(path, whole[kept])
    info = probe(path)
    assert info.handling == ("edited",)
    assert info.fps == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("open_groups", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_copied_part_starts_where_it_was_cut(tmp_path: Path, suffix: str, open_groups: bool) -> None:
    """`ffmpeg -ss 0.64 -i film -c copy` copies from the key frame on and hides what lies before the cut."""
    film = write_video(tmp_path / f"film{suffix}", FRAMES, options=OPEN_H264 if open_groups else H264)
    part = remux(film, tmp_path / f"part{suffix}", first=12, offset=-16 / 25)
    assert_reads_as(part, decode_in_order(film)[16:])
    assert probe(part).handling == ("edited",)
    twice = remux(part, tmp_path / f"twice{suffix}", offset=-3 / 25)
    assert_reads_as(twice, decode_in_order(film)[19:])


def test_the_manifest_takes_copied_parts_and_still_finds_those_that_end_early(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", FRAMES, options=H264)
    (tmp_path / "clips").mkdir()
    part = remux(film, tmp_path / "clips" / "part.mp4", first=12, offset=-16 / 25, options={"movflags": "faststart"})
    (tmp_path / "clips" / "cut.mp4").write_bytes(part.read_bytes())
    cut(tmp_path / "clips" / "cut.mp4", 0.6)
    write_video(tmp_path / "clips" / "whole.mp4", 20)
    clips, rejected = build_manifest(collect([str(tmp_path / "clips")]), Data(min_frames=5), seed=0, workers=1)
    found = [(clip.clip_id, clip.num_frames, clip.handling) for clip in clips]
    assert found == [
        ("part", 44, "edited"),
        ("whole", 20, ""),
    ]
    assert [(row.reason, "48 frames announced" in row.detail) for row in rejected] == [("truncated", True)]


@pytest.mark.parametrize("offset", [0.0, 7.02])
@pytest.mark.parametrize("options", [H264, OPEN_H264])
def test_joined_transport_streams_keep_the_order_of_the_file(
    tmp_path: Path, options: dict[str, str], offset: float
) -> None:
    """`cat a.ts b.ts`: the time stamps begin again, or go back to before those of the first part."""
    films = [write_video(tmp_path / f"{seed}.mp4", 30 + seed, options=options, seed=seed) for seed in range(2)]
    first = remux(films[0], tmp_path / "0.ts", offset=offset)
    second = write_video(tmp_path / "1.ts", 31, options=options, seed=1)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert_reads_as(joined, np.concatenate([decode_in_order(film) for film in films]))
    assert probe(joined).fps == 25


def test_a_recorder_that_paused_has_the_rate_of_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "paused.mkv"
    write_times(path, [*range(0, 1200, 40), *range(31_200, 32_400, 40)], options=H264)
    assert probe(path).fps == 25
    assert_reads_as(path, decode_in_order(path))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_videos_that_begin_after_the_sound_or_hold_the_last_frame_are_whole(tmp_path: Path, suffix: str) -> None:
    film = write_video(tmp_path / "film.mp4", 30, options=H264)
    late = remux(film, tmp_path / f"late{suffix}", offset=9.0)
    held = remux(film, tmp_path / f"held{suffix}", hold=9.0)
    for path in (late, held):
        assert_reads_as(path, decode_in_order(film))
    assert probe(late).fps == 25


@pytest.mark.parametrize("unknown_size", [False, True])
def test_matroska_that_ends_early_is_truncated(tmp_path: Path, unknown_size: bool) -> None:
    path = write_video(tmp_path / "a.mkv", FRAMES, container={"live": "1"} if unknown_size else None)
    cut(path, 0.6)
    if unknown_size:  # nothing tells
        assert probe(path).num_frames < FRAMES
        return
    with pytest.raises(MediaError, match="announced"):
        probe(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.flv", "flv"),
        ("b.flv", "libx264"),
        ("a.asf", "msmpeg4"),
        ("a.wmv", "wmv2"),
        ("a.ogv", "libvpx"),
        ("a.nut", "mpeg4"),
    ],
)
def test_rates_are_those_of_the_time_stamps(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    write_times(path, [round(index / 0.0299) for index in range(FRAMES)], codec=codec, options={"g": "12"})
    assert probe(path).fps == pytest.approx(29.9, rel=0.05)
    assert_reads_as(path, decode_in_order(path))


def write_times(path: Path, times: list[int], *, codec: str = "libx264", options: dict[str, str] | None = None) -> None:
    """Write frames that are shown at `times`, in milliseconds."""
    with av.open(str(path), "w") as output:
        stream = video_stream(output, codec, 1000, (96, 128), options=options)
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            picture = np.full((96, 128, 3), number % 256, np.uint8)
            picture[:, number % 128] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
