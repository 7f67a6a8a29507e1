"""A codec gets no more bits than the latents cost, and what is counted is what a decoder needs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from material import make_clip
from video_vae.cli import main
from video_vae.config import Codec, parse_config
from video_vae.config.runs import resolve
from video_vae.data import codecs
from video_vae.data.storage import read_lossless
from video_vae.data.table import write_table
from video_vae.doctor.inputs import missing_inputs
from video_vae.errors import UserError
from video_vae.reconstruction.codecs import CURVE, CodecRival, latent_numbers
from video_vae.reconstruction.rates import mean_psnr

BOTH: tuple[Codec, ...] = ("x264", "x265")
SIZE = (64, 72)
NUMBERS = 4 * 3 * 8 * 9
"""Of a window of 9 frames: 4 channels, 3 frames, 8x9 places."""


def clip(frames: int = 9, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Film a ramp that moves, with a little noise: uint8 (T,H,W,3)."""
    ramp = np.add.outer(np.arange(size[0]), 3 * np.arange(size[1]))
    noise = np.random.default_rng(0).normal(0, 4, (frames, *size, 3))
    moving = np.stack([np.roll(ramp, 2 * frame, axis=1) for frame in range(frames)])
    return np.clip(moving[..., None] + noise, 0, 255).astype(np.uint8)


def coded(codec: Codec, crf: float, frames: np.ndarray) -> codecs.Coded:
    return codecs.encode(codec, codecs.planes(frames), crf)


@pytest.mark.parametrize("codec", BOTH)
def test_a_finer_quality_takes_more_bits_and_comes_closer(codec: Codec) -> None:
    frames = clip()
    fine, coarse = (coded(codec, crf, frames) for crf in (15, 45))
    shown = [codecs.decode(made, *SIZE) for made in (fine, coarse)]
    assert fine.bits > 2 * coarse.bits
    assert shown[0].shape == frames.shape and mean_psnr(frames, shown[0]) > mean_psnr(frames, shown[1]) + 3 > 20


@pytest.mark.parametrize("codec", BOTH)
def test_bits_are_those_of_the_file_less_marks_and_remarks(codec: Codec, tmp_path: Path) -> None:
    """A file of the same stream, cut up by ffmpeg's own filters."""
    kind, remarks = ("h264", "6") if codec == "x264" else ("hevc", "39-40")
    made = coded(codec, 30, clip())
    raw = tmp_path / f"clip.{kind}"
    raw.write_bytes(b"".join(made.packets))
    with av.open(str(raw)) as container:
        stream = container.streams.video[0]
        bits = av.BitStreamFilterContext(f"filter_units=remove_types={remarks}", stream)
        packets = [bytes(out) for packet in container.demux(stream) for out in bits.filter(packet)]
    units = [unit for packet in packets for unit in packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")]
    assert made.bits == 8 * sum(map(len, units))
    assert made.bits < 8 * sum(map(len, made.packets))


@pytest.mark.parametrize("codec", BOTH)
def test_odd_sizes_come_back_as_they_were(codec: Codec) -> None:
    frames = clip(3, (65, 67))
    assert codecs.decode(coded(codec, 10, frames), 65, 67).shape == frames.shape


@pytest.mark.parametrize("codec", BOTH)
def test_another_process_writes_the_same_bytes_whatever_its_memory_held(codec: Codec, tmp_path: Path) -> None:
    code = (
        "import sys, hashlib, numpy as np; from video_vae.data import codecs; frames = np.load(sys.argv[1]); "
        f"made = codecs.encode({codec!r}, codecs.planes(frames), 33); "
        "print(hashlib.sha256(b''.join(made.packets)).hexdigest())"
    )
    np.save(tmp_path / "frames.npy", clip())
    filled = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}
    command = [sys.executable, "-c", code, str(tmp_path / "frames.npy")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=filled)
    here = {hashlib.sha256(b"".join(coded(codec, 33, clip()).packets)).hexdigest() for _ in range(3)}
    assert here == {found.stdout.strip()}


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize("budget", [900, 7000, 10**9])
def test_the_search_stays_below_and_comes_close(codec: Codec, budget: int) -> None:
    frames = clip()
    rival = CodecRival(codec=codec, names=("ori", "it"), budget=lambda count: budget)
    pieces = dict(rival.run(iter([frames]), "clip", len(frames)))
    *curve, chosen = rival.rates
    assert [point.setting for point in curve] == list(CURVE) and chosen.budget == budget
    assert chosen.bits == coded(codec, chosen.setting, frames).bits and chosen.psnr == mean_psnr(frames, pieces["it"])
    if chosen.bits > budget:  # said by bits and budget of the table; nothing coarser exists
        assert chosen.setting == codecs.COARSEST
    elif chosen.setting > codecs.FINEST:
        assert coded(codec, chosen.setting - 0.25, frames).bits > budget


@pytest.mark.parametrize(("frames", "chunk", "overlap", "latents"), [(33, 17, 0, 9), (33, None, 0, 9), (33, 17, 4, 12)])
def test_latents_are_counted_as_the_model_makes_them(
    frames: int, chunk: int | None, overlap: int, latents: int
) -> None:
    config = parse_config({"model": {"chunk_frames": chunk}, "reconstruction": {"overlap_frames": overlap}})
    assert latent_numbers(config, frames) == 4 * latents * 32 * 32
    scored = {"chunk_frames": chunk, "overlap_frames": overlap}
    assert latent_numbers(parse_config({"reconstruction": scored}), frames) == 4 * latents * 32 * 32


def test_the_rows_of_a_codec_are_made_from_the_command_line_and_kept(tmp_path: Path) -> None:
    write_table(tmp_path / "test.csv", [make_clip(tmp_path, "long", 40)])
    config = {
        "data": {"resolution": SIZE},
        "model": {"chunk_frames": 1},  # three times the latents
        "reconstruction": {"max_frames": 9, "windows": 2},
        "compare": {"it": {"codec": "x264"}},
    }
    command = ["reconstruct", json.dumps(config), "--rival=it", f"--data-path={tmp_path / 'test.csv'}"]
    command += [f"--save-dir={tmp_path / 'out/clips'}", "--device=cpu", "--no-previews"]
    assert main(command) == 0
    first = (tmp_path / "out/clips/rates.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(first.splitlines()))
    chosen = {row["clip_id"]: row for row in rows if row["budget"] != "0"}
    assert list(chosen) == ["long", "long@31"] and len(rows) == 2 * (1 + len(CURVE))
    for name, row in chosen.items():
        real, made = (read_lossless(tmp_path / f"out/clips_{variant}/{name}.mkv")[0] for variant in ("ori", "it"))
        assert (int(row["budget"]), int(row["pixels"])) == (24 * NUMBERS, real[..., 0].size)
        assert int(row["bits"]) == coded("x264", float(row["setting"]), real).bits <= 24 * NUMBERS
        assert float(row["psnr"]) == mean_psnr(real, made)
    assert main(command) == 0
    record = json.loads((tmp_path / "out/clips/run.json").read_text(encoding="utf-8"))
    assert record["kept"] == 2 and record["settings"]["codec"] == "x264"
    assert (tmp_path / "out/clips/rates.csv").read_text(encoding="utf-8") == first


def test_a_codec_that_this_pyav_lacks_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(codecs._ENCODERS, "x265", "libx266")
    config = {"data": {"resolution": SIZE}, "compare": {"it": {"codec": "x265"}}}
    write_table(tmp_path / "test.csv", [make_clip(tmp_path, "short", 6)])
    options = [f"--data-path={tmp_path / 'test.csv'}", f"--save-dir={tmp_path / 'out/clips'}", "--device=cpu"]
    assert main(["reconstruct", json.dumps(config), "--rival=it", *options]) == 2
    error = capsys.readouterr().err
    assert "compare.it.codec: PyAV" in error and "libx266" in error and "leave the rival out" in error
    assert not (tmp_path / "out").exists()
    lines = missing_inputs(resolve(parse_config(config)), tmp_path)
    assert [line for line in lines if line.startswith("compare.it.codec: PyAV") and "set compare.it: null" in line]
    assert not codecs.lack("x264")


def test_frames_too_small_for_a_codec_are_told() -> None:
    with pytest.raises(
        UserError, match=r"compare\.it\.codec: x265 needs frames of at least 64x64 pixels, and data.reso"
    ):
        parse_config({"data": {"resolution": [56, 80]}, "compare": {"it": {"codec": "x265"}}})
    with pytest.raises(UserError, match="x265 cannot code frames of 56x80 pixels; give 64x64 or more"):
        coded("x265", 30, clip(3, (56, 80)))
