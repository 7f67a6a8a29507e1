"""Frames that the decoder marks as corrupt are refused; decoders that need the first packet of a stream get it."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet

from clips import decode_in_order, write_video
from reading import assert_reads_as, make_clip
from video_vae.data.index import video_index
from video_vae.data.probing import probe_files
from video_vae.data.video import MediaError, probe, read_clip, read_frames


def damage(path: Path, frame: int) -> Path:
    """Overwrite the middle of the packet that holds a frame."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    packet = sorted(packets, key=lambda packet: packet.pts or 0)[frame]
    content = bytearray(path.read_bytes())
    middle = slice((packet.pos or 0) + packet.size // 3, (packet.pos or 0) + packet.size * 2 // 3)
    content[middle] = np.random.default_rng(0).bytes(middle.stop - middle.start)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "15", "bf": "0"}),
        ("a.mkv", "mpeg2video", {"g": "15", "bf": "0", "threads": "2"}),  # one slice each
        ("a.mp4", "mpeg4", {"g": "15"}),
        ("a.mkv", "ffv1", {"level": "3", "g": "15", "slicecrc": "1"}),
    ],
)
def test_a_damaged_packet_costs_the_file_where_all_is_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Frame 20 of groups of 15 is damaged: those of the other groups are as good as ever."""
    path = write_video(tmp_path / name, 60, codec=codec, options=options)
    whole = decode_in_order(path)
    damage(path, 20)
    assert probe_files([str(path)], workers=1)[str(path)].error is None
    error = probe_files([str(path)], workers=1, every_frame=True)[str(path)].error
    assert error is not None
    assert error.reason == "damaged"
    assert "frame 20" in error.detail
    clip = make_clip(path, 60)
    for good in (range(8, 20), range(30, 50)):
        assert np.array_equal(read_clip(clip, good), whole[good])
    for bad in (range(18, 23), range(24, 27), range(60)):
        with pytest.raises(MediaError, match="damaged"):
            read_clip(clip, bad)


def test_a_damaged_frame_at_the_end_costs_the_file(tmp_path: Path) -> None:
    path = damage(write_video(tmp_path / "a.mp4", 30, options={"g": "15", "bf": "0"}), 29)
    with pytest.raises(MediaError, match="damaged: the decoder marks frame 29 as corrupt"):
        probe(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_build_of_x264_is_told_by_the_first_packet_alone(tmp_path: Path, suffix: str) -> None:
    """Before build 151 it coded 4:4:4 in another way, which decoders follow where the first packet says so."""
    path = write_video(tmp_path / f"a{suffix}", 60, pixels="yuv444p", options={"g": "10", "crf": "18"})
    assert len(video_index(path).keys) == 6
    path.write_bytes(re.sub(rb"x264 - core \d+", b"x264 - core 142", path.read_bytes()))
    shown = decode_in_order(path)
    for start in (0, 13, 29, 41, 57):
        window = range(start, min(start + 5, 60))
        assert np.array_equal(read_frames(path, window), shown[window])


def test_parameters_that_only_the_first_packet_holds_are_known(tmp_path: Path) -> None:
    """The file announces other parameters than its first packet has; the later key frames say nothing."""
    path = write_video(tmp_path / "a.mp4", 40, options={"g": "10"})
    other = write_video(tmp_path / "b.mp4", 40, options={"g": "10", "x264-params": "no-cabac=1"})
    changed = tmp_path / "c.mp4"
    with av.open(str(other)) as read, av.open(str(path)) as head, av.open(str(changed), "w") as written:
        parameters = _in_band(read.streams.video[0].codec_context.extradata or b"")
        stream = written.add_stream_from_template(head.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if packet.size:
                copy = Packet(parameters * (number == 0) + bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                written.mux(copy)
    assert np.array_equal(decode_in_order(changed), decode_in_order(other))
    assert_reads_as(changed, decode_in_order(other))


def _in_band(parameters: bytes) -> bytes:
    """Turn the parameters of an MP4's H.264 stream (one of each kind) into units of a packet."""
    size = int.from_bytes(parameters[6:8], "big")
    sequence, rest = parameters[8 : 8 + size], parameters[8 + size :]
    picture = rest[3 : 3 + int.from_bytes(rest[1:3], "big")]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in (sequence, picture))


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "12", "bf": "2"}),
        ("libx264", {"g": "12", "bf": "2", "x264-params": "open-gop=1:repeat-headers=1"}),
        ("libx264", {"x264-params": "keyint=20:intra-refresh=1"}),
        ("libx265", {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1:repeat-headers=1"}),
        ("mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("share", [0.21, 0.52])
def test_a_stream_that_begins_anywhere_is_read_from_its_first_whole_frame(
    tmp_path: Path, codec: str, options: dict[str, str], share: float
) -> None:
    content = write_video(tmp_path / "whole.ts", 60, codec=codec, options=options).read_bytes()
    path = tmp_path / "late.ts"
    path.write_bytes(content[int(len(content) * share) // 188 * 188 :])
    shown = decode_in_order(path)
    assert 0 < len(shown) < 60
    assert_reads_as(path, shown)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_frames_without_a_refresh_at_once_come_from_the_start(tmp_path: Path, suffix: str) -> None:
    """With gradual refresh a picture is marked as a key frame although it is whole only many frames later."""
    path = write_video(tmp_path / f"a{suffix}", 60, options={"x264-params": "keyint=20:intra-refresh=1"})
    assert_reads_as(path, decode_in_order(path))


@pytest.mark.parametrize(
    ("codec", "bit", "hidden"),
    [("libvpx", 0x10, slice(5, None, 9)), ("libvpx-vp9", 0x02, slice(12, None, 24))],  # of VP9, key frames
)
def test_hidden_pictures_are_not_counted(tmp_path: Path, codec: str, bit: int, hidden: slice) -> None:
    """Encoders of VP8 and VP9 may put pictures that are only referred to into packets of their own."""
    path = write_video(tmp_path / "a.webm", 60, codec=codec, options={"g": "12", "lag-in-frames": "0", "cpu-used": "8"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[hidden]:
        content[content.index(packet)] ^= bit
    path.write_bytes(content)
    shown = decode_in_order(path)
    assert len(shown) == 60 - len(packets[hidden])
    assert_reads_as(path, shown)
