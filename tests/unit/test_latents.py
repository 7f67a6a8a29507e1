"""The latent cache holds exactly what the spatial VAE gives, is read by windows, and refuses what does not fit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from material import make_clip, make_spatial
from video_vae.cli import main
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip, write_table
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.latents.cache import LatentCache
from video_vae.weights.hashing import weights_sha256

CONFIG = {"data": {"resolution": [32, 32]}, "latents": {"dtype": "float32"}, "spatial": {"pretrained": None}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AutoencoderKL, list[Clip]]:
    """Clips, a spatial VAE and their cache in two shards."""
    folder = tmp_path_factory.mktemp("cache")
    net = make_spatial(folder / "spatial")
    clips = [make_clip(folder, "long", 40), make_clip(folder, "short", 5), make_clip(folder, "other", 9)]
    clips.append(make_clip(folder, "piece", 40, start_frame=7, num_frames=20))
    write_table(folder / "train.csv", clips[:3])
    write_table(folder / "test.csv", clips[2:])
    for shard in (0, 1):
        assert encode(folder, shard=shard, shards=2, output=f"{shard}.safetensors") == 0
    return folder, net, clips


def encode(folder: Path, *, config: dict = CONFIG, shard: int = 0, shards: int = 1, output: str) -> int:
    tables = [f"--data-path={folder / name}" for name in ("train.csv", "test.csv") if (folder / name).exists()]
    where = [f"--shard={shard}", f"--shards={shards}", f"--output={folder / output}", "--device=cpu"]
    return main(["encode-latents", json.dumps(config), *tables, f"--spatial={folder / 'spatial'}", *where])


def expected(net: AutoencoderKL, clip: Clip, frames: Sequence[int]) -> torch.Tensor:
    from video_vae.data.video import read_clip

    pixels = to_tensor(resize_crop(read_clip(clip, frames), (32, 32)))
    with torch.no_grad():
        return net.encode(pixels.transpose(0, 1)).latent_dist.parameters.transpose(0, 1)


def test_windows_hold_the_moments_of_exactly_their_frames(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, net, clips = made
    cache = LatentCache([folder / "0.safetensors", folder / "1.safetensors"])
    assert sorted(cache.clip_ids) == ["long", "other", "piece", "short"]
    assert cache.latent_size == (4, 4)
    for clip, start, length in ((clips[0], 0, 40), (clips[0], 31, 9), (clips[1], 4, 1), (clips[3], 3, 17)):
        window = cache.window(clip.clip_id, start, length)
        assert window.dtype == torch.float32 and window.shape == (8, length, 4, 4)
        torch.testing.assert_close(window, expected(net, clip, range(start, start + length)), atol=1e-5, rtol=1e-5)
    assert [cache.num_frames(clip.clip_id) for clip in clips] == [40, 5, 9, 20]


def test_each_clip_of_the_tables_lies_in_one_shard(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, _, _ = made
    parts = [set(LatentCache([folder / f"{shard}.safetensors"]).clip_ids) for shard in (0, 1)]
    assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == 4
    assert {path.name for path in folder.glob(".*")} == {f".{shard}.safetensors.kept" for shard in (0, 1)}


def test_half_precision_and_frame_interval(made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path) -> None:
    folder, net, clips = made
    config = {**CONFIG, "data": {"resolution": [32, 32], "frame_interval": 3}, "latents": {"dtype": "float16"}}
    assert encode(folder, config=config, output="third.safetensors") == 0
    cache = LatentCache([folder / "third.safetensors"], sampling=Sampling(frame_interval=3))
    assert cache.num_frames("long") == 14
    got = cache.window("long", 2, 12)
    torch.testing.assert_close(got, expected(net, clips[0], range(6, 40, 3)), atol=4e-3, rtol=1e-3)
    half = (folder / "third.safetensors").stat().st_size
    assert half < 14 * 8 * 16 * 2 * 4


def test_the_cache_holds_the_resampled_frames(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, net, clips = made
    config = {**CONFIG, "data": {"resolution": [32, 32], "fps": 10}}
    assert encode(folder, config=config, output="slower.safetensors") == 0
    sampling = Sampling(fps=10)
    indices = sampling.indices(clips[0])
    cache = LatentCache([folder / "slower.safetensors"], sampling=sampling)
    assert cache.num_frames("long") == len(indices) == 16  # of 40 at 25 a second
    torch.testing.assert_close(cache.window("long", 0, 16), expected(net, clips[0], indices), atol=4e-3, rtol=1e-3)


def test_the_same_input_gives_the_same_bytes(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, _, _ = made
    assert encode(folder, shard=0, shards=2, output="again.safetensors") == 0
    assert (folder / "again.safetensors").read_bytes() == (folder / "0.safetensors").read_bytes()


def test_other_weights_sizes_or_frames_are_refused(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, net, _ = made
    files = [folder / "0.safetensors"]
    LatentCache(files, spatial_sha256=weights_sha256(net.state_dict()), resolution=(32, 32), sampling=Sampling())
    sampled = {"frame_interval 1": {"sampling": Sampling(frame_interval=2)}, "fps None": {"sampling": Sampling(fps=24)}}
    others = {"spatial_sha256": {"spatial_sha256": "0" * 64}, "resolution": {"resolution": (64, 32)}}
    for named, wrong in (sampled | others).items():
        with pytest.raises(UserError, match=named):
            LatentCache(files, **wrong)  # type: ignore[arg-type]


def test_missing_clips_and_impossible_windows_are_named(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, _, _ = made
    cache = LatentCache([folder / "0.safetensors", folder / "1.safetensors"])
    assert "long" in cache and "nobody" not in cache
    with pytest.raises(UserError, match="nobody is not in the latent cache"):
        cache.window("nobody", 0, 1)
    for start, length in ((0, 0), (-1, 2), (30, 11)):
        with pytest.raises(ValueError, match="40 cached"):
            cache.window("long", start, length)


def test_damaged_files_are_refused(made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path) -> None:
    folder, _, _ = made
    good = (folder / "0.safetensors").read_bytes()
    for name, data in (("cut", good[:-10]), ("head", good[:50]), ("empty", b""), ("text", b"no cache at all")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{name}.safetensors is damaged"):
            LatentCache([path])
    with pytest.raises(UserError, match="no such file"):
        LatentCache([tmp_path / "gone.safetensors"])
    with pytest.raises(UserError, match="in both"):
        LatentCache([folder / "0.safetensors", folder / "0.safetensors"])
    with pytest.raises(UserError, match="is not a latent cache"):
        LatentCache([folder / "spatial" / "diffusion_pytorch_model.safetensors"])


def test_a_flipped_bit_is_noticed_when_its_frame_is_read(
    made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path
) -> None:
    content = bytearray((made[0] / "0.safetensors").read_bytes())
    rows = 8 + int.from_bytes(content[:8], "little")  # the first clip's rows, 512 bytes each, follow the header
    content[rows + 3 * 512 + 5] ^= 16
    (tmp_path / "0.safetensors").write_bytes(content)
    cache = LatentCache([tmp_path / "0.safetensors"])
    cache.window("long", 4, 8)
    with pytest.raises(UserError, match=r"0.safetensors is damaged \(frames 2 to 5 of long are not what was written"):
        cache.window("long", 2, 3)


def test_a_cache_reaches_worker_processes(made: tuple[Path, AutoencoderKL, list[Clip]]) -> None:
    folder, _, _ = made
    cache = LatentCache([folder / "0.safetensors"])
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 (our own)
    torch.testing.assert_close(copy.window("long", 1, 3), cache.window("long", 1, 3))


def test_a_cut_off_run_goes_on_where_it_was(made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path) -> None:
    _, net, _ = made
    net.save_pretrained(tmp_path / "spatial")
    clips = [make_clip(tmp_path, name, 6) for name in ("one", "two")]
    write_table(tmp_path / "train.csv", clips)
    from video_vae.latents import cache_writer as module

    config = module.load_config(json.dumps(CONFIG))
    encoder = module._load(config, tmp_path / "spatial", torch.device("cpu"))
    module._encode_all(clips[:1], encoder, tmp_path / "all.safetensors")  # what a killed run leaves
    (tmp_path / "one.mkv").unlink()  # so it can only come from there
    assert encode(tmp_path, output="all.safetensors") == 0
    assert LatentCache([tmp_path / "all.safetensors"]).clip_ids == ["one", "two"]


def test_a_clip_that_vanished_stops_the_encoding_until_it_is_back(
    made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made[1].save_pretrained(tmp_path / "spatial")
    clips = [make_clip(tmp_path, name, 6) for name in ("good", "gone")]
    clips[0] = replace(clips[0], source_id=sha256_file(clips[0].path)[:16])
    write_table(tmp_path / "train.csv", clips)
    (tmp_path / "gone.mkv").rename(tmp_path / "elsewhere")
    assert encode(tmp_path, output="all.safetensors") == 2
    assert "gone.mkv: missing: no such file; put the file back" in capsys.readouterr().err
    (tmp_path / "elsewhere").rename(tmp_path / "gone.mkv")
    whole = (tmp_path / "good.mkv").read_bytes()
    make_clip(tmp_path, "good", 7)
    assert encode(tmp_path, output="other.safetensors") == 2
    assert "good.mkv: changed: its content is not what the table lists" in capsys.readouterr().err
    (tmp_path / "good.mkv").write_bytes(whole)
    assert encode(tmp_path, output="all.safetensors") == 0
    assert LatentCache([tmp_path / "all.safetensors"]).clip_ids == ["good", "gone"]


def test_clips_that_do_not_decode_are_left_out_with_the_reason(
    made: tuple[Path, AutoencoderKL, list[Clip]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, net, _ = made
    net.save_pretrained(tmp_path / "spatial")
    clips = [make_clip(tmp_path, name, 6) for name in ("good", "broken")]
    write_table(tmp_path / "train.csv", clips)
    (tmp_path / "broken.mkv").write_bytes(b"not a video")
    assert encode(tmp_path, output="all.safetensors") == 0
    cache = LatentCache([tmp_path / "all.safetensors"])
    assert cache.clip_ids == ["good"] and "broken" in cache.failed
    with pytest.raises(UserError, match=r"broken is not in the latent cache \(unreadable"):
        cache.num_frames("broken")
    (tmp_path / "good.mkv").write_bytes(b"no video either")
    assert encode(tmp_path, output="none.safetensors") == 2
    assert "none of 2 clips can be encoded" in capsys.readouterr().err
    assert not (tmp_path / "none.safetensors").exists()
