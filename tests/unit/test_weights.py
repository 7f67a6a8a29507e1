"""LPIPS weights come out of the fetched pickles exactly, and nothing else can come out of them."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from safetensors import safe_open

from material import Harmful
from video_vae.errors import UserError
from video_vae.weights.lpips import convert_lpips, load_arrays, load_lpips_weights, lpips_shapes
from video_vae.weights.tensors import save_tensors

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_weights_load_strictly_and_heads_are_those_of_the_lpips_package(lpips_folder: Path, net: str) -> None:
    model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    own = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("net.")}
    model.load_state_dict(load_lpips_weights(lpips_folder, net))
    for name, value in own.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_backbone_is_a_trained_one(lpips_folder: Path) -> None:
    first = load_lpips_weights(lpips_folder, "vgg")["net.slice1.0.weight"]
    arrays = load_arrays(lpips_folder / "vgg16.ckpt")["VGG16_0"]["Conv_0"]["kernel"]  # HWIO
    assert first[5, 2, 1, 0].item() == arrays[1, 0, 2, 5]
    assert first.std() > 0.1  # random initialisation: 0.06


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps({"weight": Harmful(tmp_path / "ran")}))
    with pytest.raises(UserError, match="system is not allowed in a weights file"):
        load_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2])])
def test_what_is_no_dict_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="fetch it again"):
        load_arrays(tmp_path / "weights.ckpt")


def test_a_checkpoint_that_changed_since_it_was_fetched_is_refused(lpips_folder: Path, tmp_path: Path) -> None:
    shutil.copy(lpips_folder / "alexnet.ckpt", tmp_path)
    listing = {"alexnet.ckpt": "0" * 64}
    (tmp_path / "files.json").write_text(json.dumps(listing))
    with pytest.raises(UserError, match="changed since it was fetched"):
        convert_lpips(tmp_path, tmp_path)
    assert not (tmp_path / "alex.safetensors").exists()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    layers = {
        f"Conv_{index}": {"kernel": np.zeros((3, 3, 3, 8), np.float32), "bias": np.zeros(8)} for index in range(5)
    }
    heads = {f"NetLinLayer_{index}": {"Conv_0": {"kernel": np.zeros((1, 1, 8, 1))}} for index in range(5)}
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": layers, **heads}))
    with pytest.raises(UserError, match=r"net\.slice1\.0\.weight is float32"):
        convert_lpips(tmp_path, tmp_path)


def test_damaged_missing_and_incomplete_weights_name_the_cure(lpips_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="run `video-vae fetch CONFIG lpips"):
        load_lpips_weights(tmp_path, "alex")
    content = (lpips_folder / "alex.safetensors").read_bytes()
    (tmp_path / "alex.safetensors").write_bytes(content[:-1000])
    with pytest.raises(UserError, match="is damaged"):
        load_lpips_weights(tmp_path, "alex")
    tensors = {
        name: torch.zeros(shape) for name, shape in lpips_shapes("alex").items() if name != "lin3.model.1.weight"
    }
    save_file(tensors, tmp_path / "alex.safetensors")
    with pytest.raises(UserError, match=r"missing, unexpected or misshapen: lin3\.model\.1\.weight"):
        load_lpips_weights(tmp_path, "alex")


def test_the_same_weights_and_texts_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    texts = {name: f"{name} of \u00fc" for name in ("net", "source", "source_sha256", "weights_sha256", "format")}
    tensors, path = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(5)}, tmp_path / "w.safetensors"
    written = set()
    for _ in range(20):
        save_tensors(tensors, path, texts)
        written.add(path.read_bytes())
    assert len(written) == 1
    with safe_open(path, framework="pt") as stored:
        assert stored.metadata() == texts
        assert all(torch.equal(stored.get_tensor(name), value) for name, value in tensors.items())
