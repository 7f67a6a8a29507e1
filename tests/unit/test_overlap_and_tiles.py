"""Chunks that overlap fade into each other, and tiles give nearly what whole frames give."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from material import TEMPORAL, make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.storage import read_lossless
from video_vae.data.table import Clip, write_table
from video_vae.data.transform import resize_crop, to_tensor, to_uint8
from video_vae.data.video import read_clip
from video_vae.models import VideoAutoencoderKL
from video_vae.models.chunks import chunk_spans, join
from video_vae.models.tiling import Tiling, tile_starts


@pytest.mark.parametrize("frames", [1, 17, 18, 29, 30, 60])
@pytest.mark.parametrize("overlap", [0, 1, 4, 8])
def test_chunks_cover_every_frame_and_share_what_they_should(frames: int, overlap: int) -> None:
    spans = chunk_spans(frames, 17, overlap)
    assert {frame for span in spans for frame in span} == set(range(frames))
    assert all(len(span) == 17 for span in spans[:-1])
    assert all(len(set(a) & set(b)) == overlap for a, b in itertools.pairwise(spans))


def test_joined_chunks_fade_from_one_to_the_next() -> None:
    spans = chunk_spans(9, 6, 3)
    parts = [torch.full((1, 1, len(span), 1, 1), float(number)) for number, span in enumerate(spans)]
    assert join(parts, spans, 3).flatten().tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    frames = torch.arange(9.0).view(1, 1, 9, 1, 1)
    same = [frames[:, :, span.start : span.stop] for span in spans]
    torch.testing.assert_close(join(same, spans, 3), frames)  # chunks that agree are not changed


@torch.no_grad()
def test_a_model_with_overlap_fades_between_its_chunks(tmp_path: Path) -> None:
    model = make_video_vae(tmp_path)
    x = torch.rand(1, 3, 30, 16, 16) * 2 - 1
    z = model.encode_latents(x, overlap=4)
    assert z.shape[2] == 5 + 5  # 17 frames, and frames 13 to 29
    rec = model.decode_latents(z, 30, overlap=4)
    first = model.reconstruct(x[:, :, :17])
    second = model.reconstruct(x[:, :, 13:])
    torch.testing.assert_close(rec[:, :, :13], first[:, :, :13], atol=1e-5, rtol=0)
    torch.testing.assert_close(rec[:, :, 17:], second[:, :, 4:], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="at most by half"):
        model.reconstruct(x, overlap=9)


@pytest.mark.parametrize(("size", "tile", "overlap"), [(64, 64, 16), (65, 64, 16), (200, 64, 32), (104, 64, 8)])
def test_tiles_cover_a_side_with_at_least_the_overlap(size: int, tile: int, overlap: int) -> None:
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0 and starts[-1] + tile >= size and starts[-1] == max(0, size - tile)
    assert all(0 < b - a <= tile - overlap for a, b in itertools.pairwise(starts))
    assert all(start % 8 == 0 for start in tile_starts(size // 8 * 8, tile, overlap, 8))


@pytest.mark.parametrize("size", [(40, 40), (96, 40), (104, 136)])
def test_tiles_change_nothing_where_a_function_looks_at_one_place_at_a_time(size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, 3, *size)
    tiling = Tiling(48, 16)
    small = functional.avg_pool3d(x, (1, 8, 8))
    pooled = tiling.apply(lambda tile: functional.avg_pool3d(tile, (1, 8, 8)), x, 1, 8)
    torch.testing.assert_close(pooled, small)
    enlarged = tiling.apply(lambda tile: tile.repeat_interleave(8, 3).repeat_interleave(8, 4), small, 8, 1)
    torch.testing.assert_close(enlarged, small.repeat_interleave(8, 3).repeat_interleave(8, 4))
    torch.testing.assert_close(tiling.apply(torch.sin, small, 8, 8), small.sin())


@torch.no_grad()
def test_no_net_sees_more_than_a_tile(tmp_path: Path) -> None:
    model = make_video_vae(tmp_path)
    seen: list[tuple[int, ...]] = []
    nets = {model.spatial.encoder: 64, model.spatial.decoder: 8, model.temporal.encoder: 8, model.temporal.decoder: 8}
    for net, most in nets.items():
        net.register_forward_pre_hook(lambda _, given, most=most: seen.append((most, *given[0].shape[-2:])))
    x = torch.rand(1, 3, 5, 104, 72) * 2 - 1
    model.tiling = Tiling(64, 16)
    assert model.reconstruct(x).shape == x.shape
    assert len({most for most, *_ in seen}) == 2 and all(max(size) <= most for most, *size in seen)


CONFIG: dict[str, Any] = {
    "data": {"resolution": [40, 48]},
    "model": {"temporal": TEMPORAL},
    "reconstruction": {"max_frames": None},
}


class Run:
    """A clip, a model, and the command on them."""

    def __init__(self, folder: Path, resolution: tuple[int, int] = (40, 48)) -> None:
        self.folder, self.resolution = folder, resolution
        self.model: VideoAutoencoderKL = make_video_vae(folder)
        self.clip: Clip = make_clip(folder, "clip", 45)
        write_table(folder / "test.csv", [self.clip])

    def __call__(self, name: str, *options: str, **reconstruction: Any) -> int:
        config = CONFIG | {"data": {"resolution": self.resolution}}
        config |= {"reconstruction": CONFIG["reconstruction"] | reconstruction}
        where = [f"--ckpt-path={self.folder / 'model'}", f"--data-path={self.folder / 'test.csv'}"]
        save = [f"--save-dir={self.folder / name}", "--device=cpu", "--no-previews"]
        return main(["reconstruct", json.dumps(config), *where, *save, *options])

    def stored(self, name: str) -> np.ndarray:
        return read_lossless(self.folder / f"{name}_rec/clip.mkv")[0]

    def record(self, name: str) -> dict:
        return json.loads((self.folder / name / "run.json").read_text())

    @property
    def pixels(self) -> torch.Tensor:
        return to_tensor(resize_crop(read_clip(self.clip), self.resolution))[None]


def test_the_command_blends_chunks_as_the_model_does(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run("plain") == 0
    assert run("soft", "--overlap-frames=5") == 0
    with torch.no_grad():
        expected = to_uint8(run.model.reconstruct(run.pixels, overlap=5)[0])
    assert np.abs(run.stored("soft").astype(int) - expected).max() <= 1  # summation order
    assert not np.array_equal(run.stored("soft")[17:], run.stored("plain")[17:])
    assert run.record("soft")["settings"]["overlap_frames"] == 5
    assert run.record("soft")["config"]["reconstruction"]["overlap_frames"] == 5


@pytest.mark.parametrize("own", [17, None])
def test_a_config_may_score_in_other_chunks_than_the_models(tmp_path: Path, own: int | None) -> None:
    run = Run(tmp_path)
    run.model = make_video_vae(tmp_path, chunk_frames=own)
    for name, chunk in (("model", "model"), ("whole", None), ("chunks", 9)):
        assert run(name, chunk_frames=chunk) == 0
    with torch.no_grad():
        expected = to_uint8(torch.cat([run.model.reconstruct(part) for part in run.pixels.split(9, dim=2)], dim=2)[0])
    assert np.abs(run.stored("chunks").astype(int) - expected).max() <= 1  # summation order
    assert not np.array_equal(run.stored("chunks"), run.stored("whole"))
    assert np.array_equal(run.stored("whole"), run.stored("model")) == (own is None)
    made = {name: run.record(name)["settings"]["architecture"]["chunk_frames"] for name in ("model", "whole", "chunks")}
    assert made == {"model": own, "whole": None, "chunks": 9}


def test_impossible_overlaps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path)
    assert run("a", "--overlap-frames=9") == 2
    assert "give 8 at most" in capsys.readouterr().err
    assert run("a", "--tile=64", "--tile-overlap=40") == 2
    assert "more than half of tile" in capsys.readouterr().err
    make_video_vae(tmp_path, chunk_frames=None)
    assert run("a", "--overlap-frames=2") == 2
    assert "takes clips whole" in capsys.readouterr().err


def test_the_record_tells_the_error_of_tiles(tmp_path: Path) -> None:
    run = Run(tmp_path, (96, 136))
    assert run("whole") == 0
    assert run("tiles", "--tile=64", "--tile-overlap=32") == 0
    error = run.record("tiles")["tiling_error"]
    assert (error["clip_id"], error["frames"], error["size"], error["tiles"]) == ("clip", 17, "96x96", 4)
    with torch.no_grad():
        pixels = run.pixels[:, :, :17, :, 20:116]
        whole = to_uint8(run.model.reconstruct(pixels)[0]).astype(float)
        run.model.tiling = Tiling(64, 32)
        tiled = to_uint8(run.model.reconstruct(pixels)[0]).astype(float)
    assert error["psnr_to_untiled"] == pytest.approx(10 * np.log10(255**2 / np.square(tiled - whole).mean()), abs=0.1)
    assert error["largest_difference"] == pytest.approx(np.abs(tiled - whole).max(), abs=1)
    assert "tiling_error" not in run.record("whole")
    assert run.record("tiles")["settings"]["tile"] == 64
    # frames no larger than a tile are taken whole, and kept
    assert run("whole", "--tile=136", "--tile-overlap=32") == 0
    assert run.record("whole")["kept"] == 1
