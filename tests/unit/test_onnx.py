"""ONNX files of a model give what it gives, say what they are, and none is left that does not agree."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from material import make_tiny_vae
from video_vae.cli import main
from video_vae.errors import UserError
from video_vae.files import sha256_file
from video_vae.foreign import raise_if_foreign, traits_of
from video_vae.hub.onnx_files import FILES, ClipShape, check_agreement, write_onnx
from video_vae.weights.loading import load_video_vae, save_model


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes chunks of 5 frames."""
    folder = tmp_path_factory.mktemp("model")
    save_model(make_tiny_vae(folder, chunk_frames=5), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files for clips of two chunks, the second one shorter."""
    output = tmp_path_factory.mktemp("exported") / "onnx"
    given = ["--frames", "8", "--size", "8x12", "--output", str(output)]
    assert main(["export", str(model), "--format", "onnx", *given]) == 0
    return output


def assert_equal(net_folder: Path, exported: Path, shape: tuple[int, int, int]) -> None:
    """Compare both files with the net, on a clip of this shape."""
    net = load_video_vae(net_folder)
    video = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latents = net.encode_latents(video)
        again = net.decode_latents(latents, shape[0])
    (found,) = _session(exported / FILES[0]).run(["latents"], {"video": video.numpy()})
    np.testing.assert_allclose(found, latents.numpy(), atol=1e-4)
    (found,) = _session(exported / FILES[1]).run(["video"], {"latents": latents.numpy()})
    np.testing.assert_allclose(found, again.numpy(), atol=1e-4)


def test_the_files_of_a_net_with_chunks_give_what_it_gives(model: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {*FILES, "README.md"}
    assert_equal(model, exported, (8, 8, 12))


@pytest.mark.slow
def test_those_of_a_causal_net_do_with_their_weights_in_a_file_beside(tmp_path: Path) -> None:
    net = make_tiny_vae(tmp_path, chunk_frames=None, norm_scope="frame")
    save_model(net, tmp_path / "causal")
    out = tmp_path / "out"
    out.mkdir()
    assert [part.name for part in write_onnx(net, out, ClipShape(3, 8, 8), {}, inside=0)] == list(FILES)
    data = [out / f"{name}.data" for name in FILES]
    assert {path.name for path in out.iterdir()} == {*FILES, *(path.name for path in data)}
    assert_equal(tmp_path / "causal", out, (3, 8, 8))
    assert _session(out / FILES[0]).get_modelmeta().custom_metadata_map["data_sha256"] == sha256_file(data[0])
    raise_if_foreign(data[1], traits_of(data[1]))
    shutil.copy(data[0], data[1])  # weights that its file does not know are not its own
    with pytest.raises(UserError, match="was not written by this command"):
        raise_if_foreign(data[1], ["beside decoder.onnx"])


def test_the_files_say_what_they_are(model: Path, exported: Path) -> None:
    for name in FILES:
        said = _session(exported / name).get_modelmeta()
        texts = said.custom_metadata_map
        assert said.producer_name == "video-vae" and texts["video_vae_version"]
        assert (texts["frames"], texts["height"], texts["width"]) == ("8", "8", "12")
        assert texts["weights_sha256"] == sha256_file(model / "diffusion_pytorch_model.safetensors")
        config = json.loads(texts["config"])
        assert config["_class_name"] == "VideoAutoencoderKL" and config["chunk_frames"] == 5
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert all(sha256_file(exported / name) in card for name in FILES) and "8 frames of 8x12 pixels" in card


def test_the_card_shows_lines_that_run(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    lines = card.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(exported.parent)
    found: dict[str, np.ndarray] = {}
    exec(compile(lines, "README.md", "exec"), found)  # noqa: S102 (the lines of this project's card)
    assert found["again"].shape == (1, 3, 8, 8, 12)


def test_a_model_whose_files_cannot_agree_leaves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = load_video_vae(model)
    broken.temporal.quant_conv.conv.weight.data.fill_(3e38)  # finite, what it gives is not
    save_model(broken, tmp_path / "broken")
    given = ["--frames", "3", "--size", "8x8", "--output", str(tmp_path / "out")]
    assert main(["export", str(tmp_path / "broken"), "--format", "onnx", *given]) == 2
    assert "encoder.onnx does not agree with the model: it differs by nan" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


def test_a_difference_above_the_tolerance_is_refused(model: Path, exported: Path) -> None:
    video = torch.zeros(1, 3, 8, 8, 12)
    expected = load_video_vae(model).encode_latents(video).detach()
    assert check_agreement(exported / FILES[0], video, expected) < 1e-4
    with pytest.raises(UserError, match=r"differs by 2\.0e-03 of the largest value, 1e-03 is accepted"):
        check_agreement(exported / FILES[0], video, expected + 0.002)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--frames", "0"], "--frames 0: a clip has 1 frame at least"),
        (["--size", "10x8"], "--size 10x8: give height and width, multiples of 4"),
        (["--size", "256"], "--size 256: give height and width"),
        (["--format", "diffusers", "--frames", "9"], "add --format onnx"),
        (["--output", "vae.onnx"], "--format onnx writes a folder, not .onnx"),
    ],
)
def test_clips_that_no_file_can_take_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    output = str(tmp_path / "out")
    assert main(["export", str(model), "--format", "onnx", "--output", output, *given]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    model: Path, tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "video_vae.hub.onnx_files")
    assert main(["export", str(model), "--format", "onnx", "--output", str(tmp_path / "out")]) == 2
    assert f"needs the package {package}; pip install 'video-vae[onnx]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_told_apart(exported: Path, tmp_path: Path) -> None:
    assert traits_of(exported / FILES[0]) == {"video-vae"}
    net = torch.onnx.export(torch.nn.Identity().eval(), (torch.zeros(1),), dynamo=True, verbose=False)
    assert net is not None
    net.save(tmp_path / "encoder.onnx")
    assert not traits_of(tmp_path / "encoder.onnx")
