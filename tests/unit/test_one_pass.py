"""Whoever reads a clip in order opens it once, decodes each frame once and holds no more than a piece of it."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from clips import decode_in_order, write_video
from reading import make_clip
from video_vae.config import Config
from video_vae.data import container, frames
from video_vae.data.index import video_index
from video_vae.data.probing import probe_files
from video_vae.data.sampling import Sampling
from video_vae.data.video import MediaError, iterate_clip, iterate_pieces, probe_every_frame, read_clip
from video_vae.files import sha256_file
from video_vae.latents import cache_writer, statistics
from video_vae.metrics.reading import View, open_source, read_chunks
from video_vae.reconstruction.clips import ClipReconstructor

FRAMES = 100


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hundred frames with key frames 40 apart."""
    return write_video(tmp_path_factory.mktemp("one_pass") / "a.mp4", FRAMES, options={"g": "40", "bf": "2"})


class Work:
    """What is done with a file while it is read."""

    def __init__(self) -> None:
        self.opened = 0
        self.decoded: Counter[int | None] = Counter()

    def assert_one_pass(self) -> None:
        """See that the file was opened once and each frame was decoded once."""
        assert self.opened == 1
        assert len(self.decoded) == FRAMES
        assert set(self.decoded.values()) == {1}


@pytest.fixture
def work(video: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Count from here on, the index of the file's packets being known."""
    work, decode, really_opened = Work(), container.Decoder.frames, frames.opened
    video_index(video)

    @contextmanager
    def opened(path: str | Path) -> Iterator[Any]:
        work.opened += 1
        with really_opened(path) as found:
            yield found

    def counted(self: container.Decoder, *arguments: Any) -> Iterator[Any]:
        for frame in decode(self, *arguments):
            work.decoded[frame.pts] += 1
            yield frame

    monkeypatch.setattr(frames, "opened", opened)
    monkeypatch.setattr(container.Decoder, "frames", counted)
    return work


def test_pieces_are_the_frames_of_one_pass(video: Path, work: Work) -> None:
    pieces = list(iterate_clip(make_clip(video, FRAMES), range(FRAMES), 7))
    work.assert_one_pass()
    assert [len(piece) for piece in pieces] == [7] * 14 + [2]
    assert np.array_equal(np.concatenate(pieces), decode_in_order(video))


def test_encoding_latents_is_one_pass_for_all_views(video: Path, work: Work, tmp_path: Path) -> None:
    def encode(pixels: torch.Tensor) -> Any:
        moments = pixels[:, :1, ::8, ::8].repeat(1, 8, 1, 1)
        return SimpleNamespace(latent_dist=SimpleNamespace(parameters=moments))

    encoder = cache_writer._Encoder(
        net=SimpleNamespace(encode=encode),
        device=torch.device("cpu"),
        sampling=Sampling(),
        settings={"resolution": [48, 64], "dtype": "float16", "crop": "random", "scales": [1.0, 1.5], "flip": True},
    )
    written: list[Any] = []
    bar = SimpleNamespace(update=written.append, skip=lambda _: pytest.fail("there is nothing yet"))
    cache_writer._encode_clip(make_clip(video, FRAMES), encoder, tmp_path / "shard.safetensors", bar)
    work.assert_one_pass()
    assert sum(written) == 4 * FRAMES and len(list(tmp_path.rglob("*.*"))) == 5


def test_measuring_latents_is_one_pass(video: Path, work: Work) -> None:
    model = SimpleNamespace(config={"chunk_frames": 17}, encode_spatial=lambda pixels: pixels)
    config = Config.model_validate({"data": {"resolution": [48, 64]}})
    reader = statistics._Reader(model, config, None, torch.device("cpu"))
    lengths = [window.shape[2] for window in reader.windows(make_clip(video, FRAMES))]
    assert lengths == [17] * 5 + [15]
    work.assert_one_pass()


def test_reconstruction_reads_in_one_pass(video: Path, work: Work) -> None:
    unused: Any = None
    maker = ClipReconstructor(
        variants=unused, paths=unused, resolution=(48, 64), sampling=Sampling(), max_frames=None, settings={}
    )
    assert sum(len(piece) for piece in maker._pieces(make_clip(video, FRAMES))) == FRAMES
    work.assert_one_pass()


def test_evaluation_reads_in_one_pass(video: Path, work: Work) -> None:
    source = open_source(video)
    work.__init__()  # type: ignore[misc]
    assert [len(chunk) for chunk in read_chunks(source, View(), 30)] == [30, 30, 30, 10]
    work.assert_one_pass()


@pytest.mark.parametrize("name", ["a.mp4", "a.mpg"])
def test_looking_at_every_frame_is_one_pass(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / name, 30, codec="libx264" if name == "a.mp4" else "mpeg2video")
    video_index(path)
    decode, decoded = container.Decoder.frames, []

    def counted(self: container.Decoder, *arguments: Any) -> Iterator[Any]:
        for frame in decode(self, *arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(container.Decoder, "frames", counted)
    assert probe_every_frame(path).num_frames == 30
    assert len(decoded) == 30
    outcomes = [probe_files([str(path)], workers=1, every_frame=every)[str(path)] for every in (False, True)]
    assert outcomes[0] == outcomes[1]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 400, codec="mjpeg", pixels="yuvj420p")
    video_index(path)
    tracemalloc.start()
    for piece in iterate_clip(make_clip(path, 400), range(400), 8):
        assert piece.nbytes == 8 * 96 * 128 * 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * 96 * 128 * 3


def test_a_frame_is_freed_when_the_next_one_is_read(video: Path) -> None:
    """Not only by the garbage collector, which comes after hundreds of them: as many of 4K are gigabytes."""
    gc.collect()
    gc.disable()
    try:
        for number, _ in enumerate(iterate_pieces(video, range(FRAMES), 1)):
            if number == FRAMES // 2:
                held = sum(type(thing) is VideoFrame for thing in gc.get_objects())
        assert 1 <= held <= 3
    finally:
        gc.enable()


def test_frames_may_be_skipped_and_repeated_on_the_way(video: Path) -> None:
    indices = [0, 0, 3, 4, 4, 4, 90, 99]
    pieces = list(iterate_pieces(video, indices, 3))
    assert [len(piece) for piece in pieces] == [3, 3, 2]
    assert np.array_equal(np.concatenate(pieces), decode_in_order(video)[indices])


def test_a_clip_begins_at_its_start_frame_and_an_image_repeats(video: Path, tmp_path: Path) -> None:
    clip = make_clip(video, 10, start_frame=50)
    assert np.array_equal(np.concatenate(list(iterate_clip(clip, range(10), 4))), decode_in_order(video)[50:60])
    still = write_video(tmp_path / "still.png", 1, codec="png", pixels="rgb24")
    image = make_clip(still, 1, kind="image")
    assert [len(piece) for piece in iterate_clip(image, [0] * 5, 2)] == [2, 2, 1]


def test_a_file_that_is_written_to_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    clip = make_clip(path, 60, source_id=sha256_file(path)[:16])
    pieces = iterate_clip(clip, range(60), 10)
    assert len(next(pieces)) == 10
    write_video(path, 60, seed=1)
    with pytest.raises(MediaError, match="changed"):
        list(pieces)
    with pytest.raises(MediaError, match="changed"):
        read_clip(clip)
