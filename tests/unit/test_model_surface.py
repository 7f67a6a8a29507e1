"""The model is called as the library's video VAEs are, streams in chunks, and no other class takes it for its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from material import make_video_vae
from video_vae.models import DiagonalGaussian, VideoAutoencoderKL
from video_vae.models.chunks import in_chunks

NEAR: dict[str, Any] = {"atol": 1e-4, "rtol": 0.0}


@pytest.mark.parametrize("chunk", [17, None])
@torch.no_grad()
def test_encode_and_decode_are_those_of_the_library(chunk: int | None, tmp_path: Path) -> None:
    vae, x = make_video_vae(tmp_path, chunk_frames=chunk), torch.rand(2, 3, 22, 16, 24) * 2 - 1
    posterior = vae.encode(x).latent_dist
    assert isinstance(posterior, DiagonalGaussian) and posterior.kl().shape == (2,)
    torch.testing.assert_close(vae.normalise(posterior.mode()), vae.encode_latents(x), **NEAR)
    video = vae.decode(posterior.mode(), num_frames=22).sample
    torch.testing.assert_close(video, vae.reconstruct(x), **NEAR)
    torch.testing.assert_close(vae(x).sample, video, **NEAR)
    # as pipelines call it
    (same,) = vae.encode(x, return_dict=False)
    assert torch.equal(same.mode(), posterior.mode())
    z = same.sample(torch.Generator().manual_seed(0)) * vae.config.scaling_factor
    drawn = vae.decode(z / vae.config.scaling_factor, num_frames=22, return_dict=False)[0]
    again = vae(x, sample_posterior=True, generator=torch.Generator().manual_seed(0)).sample
    torch.testing.assert_close(again, drawn, **NEAR)
    assert (vae.temporal_compression_ratio, vae.spatial_compression_ratio) == (4, 8)


@pytest.mark.parametrize(
    ("chunk", "latents", "frames"),
    [
        (17, 1, 1),
        (17, 2, 5),
        (17, 5, 17),
        (17, 6, 18),
        (17, 10, 34),
        (16, 4, 16),
        (16, 5, 17),
        (None, 1, 1),
        (None, 7, 25),
    ],
)
@torch.no_grad()
def test_the_number_of_frames_follows_from_the_latents(
    chunk: int | None, latents: int, frames: int, tmp_path: Path
) -> None:
    vae = make_video_vae(tmp_path, chunk_frames=chunk, norm_scope="frame")
    z = torch.randn(1, 4, latents, 2, 2)
    video = vae.decode(z).sample
    assert video.shape == (1, 3, frames, 16, 16) and vae.encode(video).latent_dist.mode().shape[2] == latents
    streamed = torch.cat(list(vae.decode_stream(iter(vae.normalise(z).split(1, dim=2)))), dim=2)
    torch.testing.assert_close(streamed, video, **NEAR)


@pytest.mark.parametrize("scope", ["clip", "frame"])
@pytest.mark.parametrize(("frames", "piece", "overlap"), [(40, 9, 0), (34, 34, 0), (17, 1, 0), (3, 2, 0), (40, 5, 4)])
@torch.no_grad()
def test_a_net_with_chunks_streams_any_length(
    scope: str, frames: int, piece: int, overlap: int, tmp_path: Path
) -> None:
    vae, x = make_video_vae(tmp_path, norm_scope=scope), torch.rand(1, 3, frames, 16, 16) * 2 - 1
    z = vae.encode_latents(x, overlap=overlap)
    video = vae.decode_latents(z, frames, overlap)
    for known in (frames, None):
        latents = list(vae.encode_stream(iter(x.split(piece, dim=2)), known, overlap))
        torch.testing.assert_close(torch.cat(latents, dim=2), z, **NEAR)
    pixels = list(vae.decode_stream(iter(z.split(2, dim=2)), frames, overlap))
    torch.testing.assert_close(torch.cat(pixels, dim=2), video, **NEAR)
    assert max(part.shape[2] for part in pixels) <= 17


def test_a_stream_of_another_length_than_was_said_is_refused(tmp_path: Path) -> None:
    vae, causal = make_video_vae(tmp_path), make_video_vae(tmp_path, chunk_frames=None, norm_scope="frame")
    x, z = torch.zeros(1, 3, 20, 16, 16), torch.zeros(1, 4, 6, 2, 2)
    for said in (19, 21, 41):
        with torch.no_grad(), pytest.raises(ValueError, match="num_frames is wrong"):
            list(vae.encode_stream([x], said))
    for model, said in ((vae, 17), (vae, 34), (causal, 17), (causal, 28)):
        with torch.no_grad(), pytest.raises(ValueError, match="num_frames is wrong"):
            list(model.decode_stream([z], said))


def test_a_stream_holds_no_more_than_a_chunk() -> None:
    given = 0

    def pieces() -> object:
        """Count what was asked for."""
        nonlocal given
        for _ in range(100):
            given += 5
            yield torch.zeros(1, 1, 5, 1, 1)

    for number, (chunk, last) in enumerate(in_chunks(pieces(), 17, total=500)):  # type: ignore[arg-type]
        assert given <= 17 * (number + 1) + 5 and last == (chunk.shape[2] < 17)


@torch.no_grad()
def test_tiles_and_slices_go_on_and_off(tmp_path: Path) -> None:
    vae, x = make_video_vae(tmp_path), torch.rand(3, 3, 5, 48, 40) * 2 - 1
    whole, seen = vae(x).sample, []
    vae.temporal.encoder.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    vae.enable_slicing()
    torch.testing.assert_close(vae(x).sample, whole, **NEAR)
    assert {shape[0] for shape in seen} == {1}
    vae.disable_slicing()
    vae.enable_tiling(32, 16)
    tiled = vae(x).sample
    assert tiled.shape == whole.shape and not torch.allclose(tiled, whole) and seen[-1][-1] == 4
    vae.disable_tiling()
    seen.clear()
    torch.testing.assert_close(vae(x).sample, whole, **NEAR)
    assert seen[0][0] == 3 and seen[0][-2:] == (6, 5)
    vae.enable_tiling()
    assert vae.tiling is not None
    with pytest.raises(ValueError, match="at most by half"):
        vae.enable_tiling(32, 24)


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLTemporalDecoder", "AutoencoderKLHunyuanVideo"])
def test_no_other_class_starts_a_saved_model_with_random_weights(name: str, tmp_path: Path) -> None:
    make_video_vae(tmp_path)
    with pytest.raises(ValueError, match=r"video_vae\.models\.VideoAutoencoderKL\.from_pretrained"):
        getattr(diffusers, name).from_pretrained(tmp_path / "model", low_cpu_mem_usage=False)
    config = json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))
    assert config["_class_name"] == "VideoAutoencoderKL"
    del config["down_block_types"]  # folders of earlier versions
    (tmp_path / "model/config.json").write_text(json.dumps(config), encoding="utf-8")
    assert isinstance(VideoAutoencoderKL.from_pretrained(tmp_path / "model"), VideoAutoencoderKL)


def test_loading_and_saving_say_nothing(tmp_path: Path) -> None:
    make_video_vae(tmp_path)
    code = (
        "import sys; from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL\n"
        "vae = VideoAutoencoderKL.from_pretrained(sys.argv[1])\n"
        "vae.temporal.save_pretrained(sys.argv[2]); TemporalAutoencoderKL.from_pretrained(sys.argv[2])\n"
        "vae.save_pretrained(sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "saved")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
