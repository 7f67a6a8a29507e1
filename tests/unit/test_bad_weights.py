"""Weights from anywhere: code in them is refused, and what is missing, misshapen or not a number is named."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from material import Harmful, make_spatial, make_video_vae
from video_vae.config import Config, Spatial
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.metrics.flow import RAFT, load_flow
from video_vae.metrics.fvd import FeatureNet
from video_vae.metrics.pwcnet import PWCNet
from video_vae.training.checkpoint import BrokenCheckpointError, CheckpointStore, State
from video_vae.weights.loading import WEIGHTS, load_spatial, load_video_vae
from video_vae.weights.lpips import load_lpips_weights
from video_vae.weights.open_sora import import_checkpoint


def _fvd(path: Path) -> object:
    return FeatureNet.load(str(path), sha256_file(path), 16, torch.device("cpu"))


LOADERS: dict[str, Callable[[Path], object]] = {
    "import": lambda path: import_checkpoint(path, Config()),
    "pwcnet": lambda path: load_flow("pwcnet", str(path)),
    "raft": lambda path: load_flow("raft", str(path)),
    "fvd": _fvd,
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", ["harm.pt", "harm.bin", "harm.safetensors", "harm.ckpt"])
def test_code_in_weights_is_refused_and_never_runs(tmp_path: Path, loader: str, name: str) -> None:
    content = {"weight": Harmful(tmp_path / "ran")}
    path = tmp_path / name
    torch.save(content, path) if name == "harm.pt" else path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError) as error:
        LOADERS[loader](path)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("loader", ["import", "pwcnet", "raft"])
@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        5,
        {1: torch.ones(2)},
        {"a": 5},
        {"state_dict": {"a": "b"}},
        {"a": torch.ones(2, dtype=torch.complex64)},
        {"a": torch.eye(2).to_sparse()},
        {"a": torch.empty(2, device="meta")},
        {},
        {"a": torch.ones(2)},
    ],
)
def test_what_is_no_state_dict_of_the_net_is_refused_in_one_line(tmp_path: Path, loader: str, values: Any) -> None:
    torch.save(values, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt") as error:
        LOADERS[loader](tmp_path / "weights.pt")
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


def _one(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], str]:
    def edit(state: dict[str, Tensor]) -> str:
        name = next(name for name, value in sorted(state.items()) if value.ndim == 4)
        state[name] = change(state[name])
        return name

    return edit


def _removed(state: dict[str, Tensor]) -> str:
    name = sorted(state)[0]
    del state[name]
    return name


def _added(state: dict[str, Tensor]) -> str:
    state["extra.weight"] = torch.ones(2)
    return "extra.weight"


EDITS: dict[str, Callable[[dict[str, Tensor]], str]] = {
    "not finite": _one(lambda value: value * float("nan")),
    "infinite": _one(lambda value: value + float("inf")),
    "misshapen": _one(lambda value: value[:1].clone()),
    "missing": _removed,
    "unexpected": _added,
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("net", ["pwcnet", "raft", "spatial", "video"])
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, net: str, edit: str) -> None:
    path = tmp_path / "weights.safetensors"
    load: Callable[[], object]
    if net in ("pwcnet", "raft"):
        made: nn.Module = PWCNet() if net == "pwcnet" else RAFT(large=False).net
        state = dict(made.state_dict())
        load = lambda: load_flow(net, str(path))  # type: ignore[arg-type] # noqa: E731
    else:
        made_in = tmp_path / "made"
        folder = made_in / "model" if net == "video" else made_in
        _ = make_video_vae(made_in) if net == "video" else make_spatial(made_in)
        path = folder / WEIGHTS
        state = load_file(path)
        load = lambda: load_video_vae(folder) if net == "video" else load_spatial(Spatial(), folder)  # noqa: E731
    name = EDITS[edit](state)
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UserError) as error:
        load()
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("net", ["spatial", "video"])
def test_a_folder_with_a_pickle_only_is_refused(tmp_path: Path, net: str) -> None:
    _ = make_video_vae(tmp_path / "made") if net == "video" else make_spatial(tmp_path / "made")
    folder = tmp_path / "made" / ("model" if net == "video" else "")
    (folder / WEIGHTS).unlink()
    torch.save({"weight": Harmful(tmp_path / "ran")}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"refused, .* may be code \(posix.system\)"):
        load_video_vae(folder) if net == "video" else load_spatial(Spatial(), folder)
    assert not (tmp_path / "ran").exists()


def test_lpips_weights_that_are_not_finite_are_named(lpips_folder: Path, tmp_path: Path) -> None:
    state = load_file(lpips_folder / "alex.safetensors")
    state["net.slice3.6.bias"][3] = float("nan")
    save_file(state, tmp_path / "alex.safetensors")
    with pytest.raises(UserError, match=r"not finite: net\.slice3\.6\.bias; convert it again"):
        load_lpips_weights(tmp_path, "alex")


def test_a_feature_net_that_is_not_finite_is_named(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.bias.data[0] = float("nan")
    torch.jit.trace(net, torch.ones(1, 2)).save(str(tmp_path / "net.pt"))
    with pytest.raises(UserError, match="1 tensors are not finite, such as bias"):
        _fvd(tmp_path / "net.pt")


def test_a_resume_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "f" * 16, keep=2)
    folder = store.save(State(step=3, tensors={"weight": torch.ones(2)}, values={}))
    (folder / "state.safetensors").write_bytes(pickle.dumps({"weight": Harmful(tmp_path / "ran")}))
    with pytest.raises(BrokenCheckpointError, match="does not match its sha256"):
        store.load(3)
    assert not (tmp_path / "ran").exists()


HUB = """
import sys
from huggingface_hub import constants
from video_vae.cli import _log_to_stderr
from video_vae.config import Spatial
from video_vae.errors import UserError
from video_vae.weights.loading import load_spatial
_log_to_stderr()
for sha256, endpoint in ((sys.argv[1], "https://hub"), ("1" * 64, "https://hub"), (None, "https://hub"), (None, "http://hub")):
    constants.ENDPOINT = endpoint
    try:
        load_spatial(Spatial(pretrained="someone/vae", subfolder="vae", sha256=sha256))
        print("taken")
    except UserError as error:
        print(error)
"""


def test_weights_of_a_hub_are_compared_with_their_hash(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--someone--vae"
    commit = "0" * 40
    make_spatial(cached / "snapshots" / commit / "vae")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    digest = sha256_file(cached / "snapshots" / commit / "vae" / WEIGHTS)
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", HUB, digest], env=environment, capture_output=True, text=True, check=True
    )
    right, wrong, unsaid, unsafe = done.stdout.splitlines()
    assert right == unsaid == "taken" and f"set spatial.sha256: {digest}" in done.stderr
    assert f"spatial.sha256 says {'1' * 64}" in wrong
    assert "HF_ENDPOINT is http://hub; fetch from an https address only" in unsafe
