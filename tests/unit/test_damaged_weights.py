"""Weights that still load may be damaged: what this package writes carries its hash, and a flipped bit is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from material import make_spatial, make_video_vae
from video_vae.config import Spatial
from video_vae.errors import UserError
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import WEIGHTS, load_spatial, load_video_vae, save_model
from video_vae.weights.lpips import load_lpips_weights

DAMAGE = ("flip", "cut", "empty")


def damage(path: Path, how: str) -> None:
    """Flip one bit of a file's last number, cut the file, or empty it."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[: {"flip": len(content), "cut": len(content) // 2, "empty": 0}[how]])


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_of_a_model_are_refused(tmp_path: Path, how: str) -> None:
    made = make_video_vae(tmp_path / "made")
    save_model(made, tmp_path / "model")
    assert weights_sha256(load_video_vae(tmp_path / "model").state_dict()) == weights_sha256(made.state_dict())
    damage(tmp_path / "model" / WEIGHTS, how)
    with pytest.raises(UserError, match=r"is damaged: its hash is not that in config.json; delete .*/model"):
        load_video_vae(tmp_path / "model")


def test_a_model_saved_again_has_its_own_hash(tmp_path: Path) -> None:
    make_video_vae(tmp_path / "made")
    save_model(load_video_vae(tmp_path / "made" / "model"), tmp_path / "first")
    changed = load_video_vae(tmp_path / "first")
    next(changed.temporal.parameters()).data.add_(1)
    save_model(changed, tmp_path / "second")
    assert weights_sha256(load_video_vae(tmp_path / "second").state_dict()) == weights_sha256(changed.state_dict())


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_of_a_spatial_vae_are_refused(tmp_path: Path, how: str) -> None:
    save_model(make_spatial(tmp_path / "made"), tmp_path / "spatial")
    load_spatial(Spatial(), tmp_path / "spatial")
    damage(tmp_path / "spatial" / WEIGHTS, how)
    with pytest.raises(UserError, match="is damaged"):
        load_spatial(Spatial(), tmp_path / "spatial")


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_of_lpips_are_refused(lpips_folder: Path, tmp_path: Path, how: str) -> None:
    shutil.copy(lpips_folder / "alex.safetensors", tmp_path)
    load_lpips_weights(tmp_path, "alex")
    damage(tmp_path / "alex.safetensors", how)
    with pytest.raises(UserError, match=r"alex.safetensors is damaged"):
        load_lpips_weights(tmp_path, "alex")
