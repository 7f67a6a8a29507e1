"""A run starts from weights that come from outside, and what does not fit is named in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from material import TEMPORAL, make_spatial, make_video_vae
from training_material import cached, make_data, options, settings, train_here, weights
from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.files import sha256_file
from video_vae.hub.model_card import trace
from video_vae.models import TemporalAutoencoderKL, VideoAutoencoderKL
from video_vae.weights.files import WEIGHTS
from video_vae.weights.loading import load_spatial, load_video_vae

MODEL: dict[str, Any] = {
    "temporal": {**TEMPORAL, "norm_scope": "clip"},
    "scaling_factor": 0.5,
    "shift": [-0.1, 0.34, 0.27, 0.98],
    "scale": [3.85, 2.32, 2.33, 3.06],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net as a model folder, and its bare tensors under the published names, which say nothing of it."""
    folder = tmp_path_factory.mktemp("made")
    net = make_video_vae(folder)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "published.safetensors")
    return folder


def start(output: Path, **model: Any) -> int:
    spatial = model.pop("spatial", None)
    given = {"model": {**MODEL, **model}, "spatial": {"pretrained": spatial}}
    return main(["start-model", json.dumps(given), "--output", str(output)])


@pytest.mark.parametrize("form", ["model", "published.safetensors", "exported.safetensors"])
def test_each_form_of_a_model_becomes_the_start(made: Path, tmp_path: Path, form: str) -> None:
    exported = made / "exported.safetensors"
    if form == exported.name:
        assert main(["export", str(made / "model"), "--output", str(exported)]) == 0
    pretrained = made / form
    file = pretrained / WEIGHTS if pretrained.is_dir() else pretrained
    assert (
        start(tmp_path / "start", pretrained=str(pretrained), spatial=str(made / "spatial"), sha256=sha256_file(file))
        == 0
    )
    expected, found = load_video_vae(made / "model").state_dict(), load_video_vae(tmp_path / "start/model").state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    spatial = load_spatial(parse_config({"spatial": {"pretrained": str(tmp_path / "start/spatial")}}).spatial)
    assert torch.equal(spatial.encoder.conv_in.weight, expected["spatial_vae.module.encoder.conv_in.weight"])
    record = json.loads((tmp_path / "start/run.json").read_text())
    assert record["pretrained"] == str(pretrained) and record["pretrained_sha256"] == sha256_file(file)
    assert record["inputs"][f"pretrained {file.name}"]["sha256"] == record["pretrained_sha256"]
    assert set(record["outputs"]) == {"model", "spatial"}


def test_without_pretrained_weights_the_start_is_the_fresh_net_of_the_first_stage(tmp_path: Path) -> None:
    make_data(tmp_path)
    steps = ["--output", str(tmp_path / "start"), "--spatial", str(tmp_path / "spatial")]
    assert main(["start-model", settings(), *steps]) == 0
    arguments = options(tmp_path, tmp_path / "fresh", *cached(tmp_path), config=settings(steps=1, ema_decay=None))
    train_here(arguments)
    from_start = ["--init-from", str(tmp_path / "start/model"), *cached(tmp_path)]
    train_here(options(tmp_path, tmp_path / "given", *from_start, config=settings(steps=1, ema_decay=None)))
    fresh, given = weights(tmp_path / "fresh"), weights(tmp_path / "given")
    assert all(torch.equal(fresh[name], given[name]) for name in fresh)
    assert [record["command"] for record in trace(tmp_path / "given/model").records] == ["train"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temporal": {**MODEL["temporal"], "base_channels": 8}}, "set model.temporal to its architecture"),
        ({"temporal": {**MODEL["temporal"], "layers_per_block": 2}}, "set model.temporal to its architecture"),
        ({"sha256": "0" * 64}, "but model.sha256 says 0000"),
        ({"pretrained": "no/such/file"}, "no/such/file"),
    ],
    ids=["width", "depth", "hash", "missing"],
)
def test_bare_tensors_that_do_not_fit_are_refused(
    made: Path, tmp_path: Path, wrong: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"pretrained": str(made / "published.safetensors"), "spatial": str(made / "spatial"), **wrong}
    assert start(tmp_path / "start", **given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error, error
    assert not (tmp_path / "start").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"temporal": {**MODEL["temporal"], "norm_scope": "frame"}},
            "norm_scope clip, model.temporal.norm_scope is frame",
        ),
        (
            {"temporal": {**MODEL["temporal"], "pad_mode": "replicate"}},
            "pad_mode constant, model.temporal.pad_mode is replicate",
        ),
        ({"scaling_factor": 1.0}, "scaling_factor 0.5, model.scaling_factor is 1.0"),
        ({"chunk_frames": 9}, "chunk_frames 17, model.chunk_frames is 9"),
    ],
)
def test_a_model_that_says_other_than_the_config_is_refused(
    made: Path, tmp_path: Path, wrong: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path / "start", pretrained=str(made / "model"), **wrong) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_another_spatial_vae_and_other_latent_channels_are_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = str(made / "published.safetensors")
    other = make_spatial(tmp_path / "other")
    wide = type(other).from_config({**other.config, "block_out_channels": (8, 8, 8, 16)})
    wide.save_pretrained(tmp_path / "wide")
    assert start(tmp_path / "start", pretrained=published, spatial=str(tmp_path / "wide")) == 2
    assert "set spatial.pretrained to a folder" in capsys.readouterr().err.splitlines()[-1]
    many = type(other).from_config({**other.config, "latent_channels": 8})
    temporal = TemporalAutoencoderKL(**TEMPORAL, in_channels=8, latent_channels=8)
    eight: dict[str, Any] = {"shift": [0.0] * 8, "scale": [1.0] * 8}
    VideoAutoencoderKL(many, temporal, scaling_factor=0.5, **eight).save_pretrained(tmp_path / "eight")
    assert start(tmp_path / "start", pretrained=str(tmp_path / "eight"), shift=MODEL["shift"]) == 2
    assert "eight has 8 latent channels, this workflow's have 4" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("stage", ["stage1", "stage3"])
def test_a_stage_trains_one_half_alone(tmp_path: Path, half: str, stage: str) -> None:
    make_data(tmp_path)
    pixels = {"objective": "pixels", "train_spatial": True, "frames": [1, 5]} if stage == "stage3" else {}
    changes = {"train": [half], "identity_weight": 0.0, "steps": 2, "image_share": 0.0, "ema_decay": None, **pixels}
    given = cached(tmp_path) if stage == "stage1" else []
    assert (
        main(["start-model", settings(), "--output", str(tmp_path / "s"), "--spatial", str(tmp_path / "spatial")]) == 0
    )
    init = ["--init-from", str(tmp_path / "s/model")]
    train_here(options(tmp_path, tmp_path / "out", *given, *init, config=settings(stage, **changes), stage=stage))
    before, after = load_file(tmp_path / "s/model" / WEIGHTS), weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    other = {"encoder": "decoder", "decoder": "encoder"}[half]
    assert changed and not [name for name in changed if f".{other}." in name]
    assert bool([name for name in changed if name.startswith("spatial_vae.")]) == (stage == "stage3")
    assert [name for name in changed if name.startswith("temporal_vae.")]


def test_the_identity_loss_needs_the_encoder() -> None:
    with pytest.raises(Exception, match=r"identity_weight trains the encoder.*set it to 0"):
        parse_config({"stages": {"stage1": {"train": ["decoder"]}}})
