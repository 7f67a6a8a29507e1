"""Weights are found wherever trainers keep them in a checkpoint; where there are several sets, they are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.errors import UserError
from video_vae.metrics.flow import NetFlow, load_flow
from video_vae.metrics.pwcnet import PWCNet
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.weights.open_sora import import_checkpoint
from video_vae.weights.tensors import read_tensors, take_net

TEMPORAL = {"base_channels": 8, "layers_per_block": 1, "norm_num_groups": 4}
CONFIG = parse_config({"model": {"temporal": TEMPORAL}})
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def spatial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spatial")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4).save_config(folder)
    return folder


@pytest.fixture(scope="module")
def states(spatial: Path) -> tuple[State, State]:
    """State dicts of two nets of one kind, with other weights."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = AutoencoderKL.from_config(AutoencoderKL.load_config(spatial))
        made.append(dict(VideoAutoencoderKL(net, TemporalAutoencoderKL(**TEMPORAL)).state_dict()))
    return made[0], made[1]


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def ddp_parts(state: State) -> State:
    """Wrap the temporal VAE alone, as DDP and torch.compile do."""
    return {name.replace("temporal_vae.", "temporal_vae.module._orig_mod."): tensor for name, tensor in state.items()}


ONE: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "step": 7},
    "ema": lambda state: {"ema": state},
    "lightning": lambda state: {
        "state_dict": prefixed("vae.")(state) | {"loss.discriminator.main.0.weight": torch.ones(1)},
        "optimizer_states": [{"state": {}}],
        "rng": {"cpu": torch.ones(5)},
    },
    "nested": lambda state: {"state_dict": {"gen_model": state, "dics_model": {"main.0.weight": torch.ones(1)}}},
    "module": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "vae": prefixed("vae."),
    "all of them": lambda state: {"model": prefixed("module._orig_mod.first_stage.vae.")(state)},
    "fsdp": prefixed("_fsdp_wrapped_module."),
    "parts": ddp_parts,
    "deepspeed": lambda state: {"module": state, "ds_version": "0.15", "global_steps": 10},
}


@pytest.mark.parametrize("form", ONE)
def test_weights_are_found_in_what_trainers_write(
    states: tuple[State, State], spatial: Path, tmp_path: Path, form: str
) -> None:
    (tmp_path / "folder").mkdir()
    torch.save(ONE[form](states[0]), tmp_path / "folder" / "last.ckpt")
    net = import_checkpoint(tmp_path / "folder", CONFIG, spatial)
    assert all(torch.equal(value, states[0][name]) for name, value in net.state_dict().items())


def test_prefixes_are_taken_off_in_safetensors_too(states: tuple[State, State], spatial: Path, tmp_path: Path) -> None:
    save_file(prefixed("any.thing.")(states[0]), tmp_path / "vae.safetensors")
    net = import_checkpoint(tmp_path / "vae.safetensors", CONFIG, spatial)
    assert all(torch.equal(value, states[0][name]) for name, value in net.state_dict().items())


SEVERAL: dict[str, tuple[Callable[[State, State], Any], dict[str, int]]] = {
    "beside": (lambda one, two: {"model": one, "ema": two}, {"model": 0, "ema": 1}),
    "at different depths": (
        lambda one, two: {"ema_state_dict": two, "state_dict": {"gen_model": prefixed("module.")(one)}},
        {"state_dict.gen_model": 0, "state_dict": 0, "ema_state_dict": 1, "state_dict.gen_model.module": 0},
    ),
    "in one mapping": (
        lambda one, two: prefixed("vae.")(one) | prefixed("vae_ema.")(two),
        {"vae": 0, "vae_ema": 1},
    ),
    "one in the other": (lambda one, two: {**one, "ema": two}, {".": 0, "ema": 1}),
    "deepspeed": (lambda one, two: {"module": one, "ema": prefixed("module.")(two)}, {"module": 0, "ema": 1}),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_sets_are_named_and_one_is_taken_by_key(
    states: tuple[State, State], spatial: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write, keys = SEVERAL[form]
    torch.save(write(*states), tmp_path / "vae.pt")
    config = '{"model": {"temporal": {"base_channels": 8, "layers_per_block": 1, "norm_num_groups": 4}}}'
    arguments = ["import", str(tmp_path / "vae.pt"), "--config", config, "--spatial", str(spatial)]
    assert main([*arguments, "--output", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert "several sets of weights are in it; there are" in error and "by --key" in error and error.count("\n") == 1
    named = error.partition("there are ")[2].partition(":")[0].partition("; take")[0].split(", ")
    assert len(named) == 2
    for key, number in {**keys, **{name: keys.get(name, -1) for name in named}}.items():
        net = import_checkpoint(tmp_path / "vae.pt", CONFIG, spatial, key)
        own = [all(torch.equal(value, state[name]) for name, value in net.state_dict().items()) for state in states]
        assert own.index(True) == number if number >= 0 else any(own), key
    assert main([*arguments, "--key", "typo", "--output", str(tmp_path / "model")]) == 2
    assert "under 'typo'" in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_what_is_missing_in_a_set_is_still_named(states: tuple[State, State], spatial: Path, tmp_path: Path) -> None:
    lost = {name: tensor for name, tensor in states[0].items() if name != "shift"}
    torch.save({"model": prefixed("module.")(lost), "epoch": torch.tensor(3)}, tmp_path / "vae.pt")
    with pytest.raises(UserError, match=r"1 missing \(shift\)"):
        import_checkpoint(tmp_path / "vae.pt", CONFIG, spatial)


def test_tensors_that_are_no_numbers_are_refused_where_they_are_taken(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "other": {"b": torch.eye(2).to_sparse()}}, tmp_path / "vae.pt")
    found = read_tensors(tmp_path / "vae.pt", "checkpoint")
    with pytest.raises(UserError, match="b is no tensor of real numbers"):
        take_net(found, ["b"], "here")
    torch.save({"other": {"b": torch.eye(2).to_sparse()}, "model": {"a": torch.ones(2)}}, tmp_path / "vae.pt")
    assert take_net(read_tensors(tmp_path / "vae.pt", "checkpoint"), ["a"], "here").keys() == {"a"}


def test_flow_nets_come_wrapped_too(tmp_path: Path) -> None:
    net = PWCNet()
    published = {name.replace("net", "module"): tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": prefixed("module.")(published), "epoch": 5}, tmp_path / "pwc.ckpt")
    flow = load_flow("pwcnet", str(tmp_path / "pwc.ckpt"))
    assert isinstance(flow, NetFlow)
    loaded: Mapping[str, Tensor] = flow.net.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in net.state_dict().items())
