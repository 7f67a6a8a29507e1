"""Published checkpoints come in and go out whole, or it is said what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.errors import UserError
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.weights.open_sora import import_checkpoint, read_state_dict

TEMPORAL = {"base_channels": 8, "layers_per_block": 1, "norm_num_groups": 4}
CONFIG = parse_config({"model": {"temporal": TEMPORAL}})


@pytest.fixture
def net(tmp_path: Path) -> VideoAutoencoderKL:
    spatial = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    spatial.save_config(tmp_path / "spatial")
    return VideoAutoencoderKL(spatial, TemporalAutoencoderKL(**TEMPORAL))


@pytest.mark.parametrize("name", ["vae.safetensors", "vae.pt"])
def test_checkpoint_comes_in_and_goes_out_the_same(net: VideoAutoencoderKL, tmp_path: Path, name: str) -> None:
    state = net.state_dict()
    source = tmp_path / "published" / name
    source.parent.mkdir()
    save_file(state, source) if name.endswith("safetensors") else torch.save({"state_dict": state}, source)
    config = f'{{"model": {{"temporal": {str(TEMPORAL).replace(chr(39), chr(34))}}}}}'
    model, out = tmp_path / "model", tmp_path / "out.safetensors"
    arguments = ["import", str(source.parent), "--config", config, "--spatial", str(tmp_path / "spatial")]
    assert main([*arguments, "--output", str(model)]) == 0
    assert main(["export", str(model), "--output", str(out)]) == 0
    again = load_file(out)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_what_does_not_fit_is_named(net: VideoAutoencoderKL, tmp_path: Path) -> None:
    state = dict(net.state_dict())
    del state["temporal_vae.quant_conv.conv.bias"]
    state["extra"] = torch.zeros(1)
    state["temporal_vae.decoder.conv1.conv.bias"] = torch.zeros(3)
    state["temporal_vae.decoder.conv_out.conv.bias"] = torch.full((4,), float("nan"))
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(UserError) as error:
        import_checkpoint(tmp_path / "bad.safetensors", CONFIG, tmp_path / "spatial")
    for part in (
        "1 missing (temporal_vae.quant_conv.conv.bias)",
        "1 unexpected (extra)",
        "(3,) instead of",
        "1 not finite",
    ):
        assert part in str(error.value)


class Evil:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_pickles_with_code_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="refused"):
        read_state_dict(tmp_path / "evil.pt")


@pytest.mark.parametrize("content", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_broken_files_are_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="broken"):
        read_state_dict(path)
    with pytest.raises(UserError, match="0 weight files"):
        (tmp_path / "empty").mkdir()
        read_state_dict(tmp_path / "empty")
