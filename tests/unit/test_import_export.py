"""What was exported comes back without options, in every form, and an option that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from material import TEMPORAL, make_video_vae
from video_vae.cli import main
from video_vae.config import Config
from video_vae.models import VideoAutoencoderKL
from video_vae.reconstruction.checkpoint import load_checkpoint
from video_vae.weights.files import ModelFiles
from video_vae.weights.hashing import weights_sha256
from video_vae.weights.loading import load_video_vae
from video_vae.weights.open_sora import described

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net that differs from the published one in all that its weights' shapes do not tell."""
    folder = tmp_path_factory.mktemp("made")
    make_video_vae(folder, chunk_frames=9, norm_scope="frame", pad_mode="replicate")
    return folder / "model"


@pytest.mark.parametrize(
    "target", [*(f"w{ending}" for ending in ENDINGS), "w.PTH", "open-sora", "vae-1.2", "diffusers"]
)
def test_what_was_exported_comes_back_without_options(model: Path, tmp_path: Path, target: str) -> None:
    form = "diffusers" if target == "diffusers" else "open-sora"
    assert main(["export", str(model), "--format", form, "--output", str(tmp_path / target)]) == 0
    assert (tmp_path / target).is_dir() == (target in ("open-sora", "vae-1.2", "diffusers"))
    assert main(["import", str(tmp_path / target), "--output", str(tmp_path / "again")]) == 0
    made, again = load_video_vae(model), load_video_vae(tmp_path / "again")
    assert weights_sha256(made.state_dict()) == weights_sha256(again.state_dict())
    assert {k: v for k, v in made.config.items() if k[0] != "_"} == {
        k: v for k, v in again.config.items() if k[0] != "_"
    }
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()
    taken = load_checkpoint(tmp_path / target, Config())  # as reconstruct does, whose config says nothing of the net
    assert taken.config["chunk_frames"] == 9 and taken.temporal.config["pad_mode"] == "replicate"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_what_its_ending_says(model: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    assert main(["export", str(model), "--output", str(path)]) == 0
    state = load_file(path) if ending == ".safetensors" else torch.load(path, weights_only=True)
    net = VideoAutoencoderKL.from_config(load_video_vae(model).config)
    assert not any(net.load_state_dict(state, strict=True))


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("open-sora", "w.onnx"),
        ("open-sora", "w.gguf"),
        ("open-sora", "w.sft"),
        ("diffusers", "w.pt"),
        ("diffusers", "w.safetensors"),
    ],
)
def test_another_ending_is_refused(
    model: Path, tmp_path: Path, form: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(model), "--format", form, "--output", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert f"--output {tmp_path / name}: " in error and error.count("\n") == 1 and "writes" in error
    assert not list(tmp_path.iterdir())


def test_a_model_folder_is_not_named_as_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(model), "--output", str(tmp_path / "w.safetensors")]) == 2
    assert "a model folder is written" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_explicit_config_counts_more_than_the_description(model: Path, tmp_path: Path) -> None:
    config = json.dumps(
        {"model": {"temporal": {**TEMPORAL, "norm_scope": "clip"}, "chunk_frames": 17, "scaling_factor": 0.5}}
    )
    arguments = ["import", str(model), "--config", config, "--spatial", str(model.parent / "spatial")]
    assert main([*arguments, "--output", str(tmp_path / "again")]) == 0
    assert load_video_vae(tmp_path / "again").config["chunk_frames"] == 17


def test_the_hint_names_the_option_that_is_wrong(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(load_file(model / "diffusion_pytorch_model.safetensors"), tmp_path / "plain.safetensors")
    other = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    other.save_config(tmp_path / "other")
    temporal = json.dumps({"model": {"temporal": TEMPORAL}})
    own = str(model.parent / "spatial")
    for options, told, untold in (
        (["--config", temporal], "--spatial", "model.temporal"),
        (["--config", temporal, "--spatial", str(tmp_path / "other")], "--spatial", "model.temporal"),
        (["--spatial", own], "model.temporal", "--spatial"),
        ([], "--spatial the folder with the config.json of its spatial VAE and set model.temporal", "typo"),
        (["--config", temporal, "--spatial", str(tmp_path)], "no config.json there", "model.temporal"),
    ):
        arguments = ["import", str(tmp_path / "plain.safetensors"), *options]
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
        cure = capsys.readouterr().err.rpartition(";")[2] if "no config" not in told else "no config.json there"
        assert told in cure and untold not in cure
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert main(["import", str(tmp_path / "a.safetensors"), "--output", str(tmp_path / "out")]) == 2
    assert "none of its names is one of a video VAE's" in capsys.readouterr().err


def test_another_model_and_a_broken_description_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(model.parent / "spatial"), "--output", str(tmp_path / "out")]) == 2
    assert (
        "of class AutoencoderKL: the temporal VAE is missing; give a video VAE; a spatial VAE alone is named by"
        in capsys.readouterr().err
    )
    state = load_file(model / "diffusion_pytorch_model.safetensors")
    for text in ("{", '{"_class_name": "VideoAutoencoderKL", "spatial": {}, "temporal": {"base_channels": "x"}}'):
        save_file(state, tmp_path / "w.safetensors", {"config": text})
        assert main(["import", str(tmp_path / "w.safetensors"), "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert "config" in error and error.count("\n") == 1 and "w.safetensors" in error


def test_the_published_folder_says_how_long_its_chunks_are(tmp_path: Path) -> None:
    values = {"model_type": "VideoAutoencoderPipeline", "micro_frame_size": 33, "shift": [0.0] * 4, "scale": [2.0] * 4}
    (tmp_path / "config.json").write_text(json.dumps(values))
    files = ModelFiles(weights=(tmp_path / "model.safetensors",), config=tmp_path / "config.json")
    said = described(files, {})
    assert (said["chunk_frames"], said["shift"], said["scale"]) == (33, [0.0] * 4, [2.0] * 4)
    assert said["temporal"]["base_channels"] == 128 and said["spatial"]["block_out_channels"] == (128, 256, 512, 512)
