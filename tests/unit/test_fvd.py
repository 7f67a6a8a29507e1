"""rFVD is the Frechet distance of features, and its results say of which ones."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from metrics_material import bikes, save_clip
from video_vae.cli import main_for
from video_vae.data.transform import resize_crop, to_tensor
from video_vae.files import sha256_file
from video_vae.metrics.fvd import frechet_distance


class Net(nn.Module):
    """Means a channel and changes in time: features that can be checked by hand."""

    def forward(self, video: Tensor) -> Tensor:
        """Return (B, 6)."""
        change = video[:, :, 1:] - video[:, :, :-1]
        return torch.cat((video.mean(dim=(2, 3, 4)), change.abs().mean(dim=(2, 3, 4))), dim=1)


class PublicNet(Net):
    """The same with the options of the public file: with these values given it works on what it gets."""

    def forward(
        self, video: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        """Return (B, 6), or nonsense where the options have their defaults."""
        if rescale or resize or not return_features:
            return video.new_zeros(7, 7)
        change = video[:, :, 1:] - video[:, :, :-1]
        return torch.cat((video.mean(dim=(2, 3, 4)), change.abs().mean(dim=(2, 3, 4))), dim=1)


class WrongNet(nn.Module):
    """Gives a map instead of features."""

    def forward(self, video: Tensor) -> Tensor:
        """Return (B, 3, T, H, W)."""
        return video


def save_net(path: Path, net: nn.Module) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(path)
    return [f"--fvd_weights={path}", f"--fvd_sha256={sha256_file(path)}"]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Clips of 21, 12 and 5 frames."""
    real, generated = (np.concatenate([frames, frames[::-1]] * 2) for frames in bikes())
    for name, count in (("a", 21), ("b", 12), ("c", 5)):
        save_clip(tmp_path / "x_ori" / f"{name}.mkv", real[:count])
        save_clip(tmp_path / "x_rec" / f"{name}.mkv", np.roll(generated, count, axis=1)[:count])
    return tmp_path


def evaluate(folder: Path, *options: str, variant: str = "rec") -> int:
    where = [f"--real_video_dir={folder / 'x_ori'}", f"--generated_video_dir={folder / f'x_{variant}'}"]
    output = [f"--output_dir={folder / 'scores'}", "--device=cpu", "--metric", "psnr"]
    return main_for("evaluate", [*where, *output, *options])


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "scores/summary.json").read_text())


@pytest.mark.parametrize(("first", "second"), [(40, 60), (40, 5), (4, 5)])
def test_distance_is_that_of_the_formula(first: int, second: int) -> None:
    rng = np.random.default_rng(first + second)
    a = rng.standard_normal((first, 7)) @ rng.standard_normal((7, 7))
    b = rng.standard_normal((second, 7)) + 0.5
    covariances = [np.cov(side, rowvar=False) for side in (a, b)]
    root = sqrtm(covariances[0].astype(complex) @ covariances[1])
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root).real
    # the root of a singular product is inexact: there the tolerance is what scipy's result is good for
    tolerance = 1e-9 if min(first, second) > 7 else 1e-3
    assert frechet_distance(a, b) == pytest.approx(expected, rel=tolerance)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_same_features_have_no_distance_and_a_shift_its_square() -> None:
    for samples in (3, 50):
        features = np.random.default_rng(0).standard_normal((samples, 8))
        assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-9)
        assert frechet_distance(features, features + 2.0) == pytest.approx(4.0 * 8, rel=1e-9)
        assert frechet_distance(features, 3 * features - 2 * features.mean(0)) == pytest.approx(
            4 * np.trace(np.cov(features, rowvar=False)), rel=1e-9
        )  # three times the spread: (3 - 1)^2 of it


@pytest.mark.parametrize("net", [Net(), PublicNet()], ids=["plain", "public"])
def test_rfvd_of_folders(clips: Path, net: nn.Module) -> None:
    assert evaluate(clips, *save_net(clips / "net.pt", net), "--fvd_frames=10") == 0
    found = summary(clips)
    entry = found["variants"]["rec"]["rfvd"]
    # 21 frames hold two samples, 12 hold one, 5 hold none
    assert (entry["name"], entry["samples"], entry["left_out"]) == ("rfvd_n3_f10_s1", 3, 1)
    assert entry["features"] == f"torchscript:{sha256_file(clips / 'net.pt')[:8]}" and entry["dimensions"] == 6
    assert found["conditions"]["fvd_sha256"] == sha256_file(clips / "net.pt")
    assert any("3 samples: FVD comes out too high below 256" in text for text in found["warnings"])
    sides = []
    for frames, shifted in zip(bikes(), (False, True), strict=True):
        whole = np.concatenate([frames, frames[::-1]] * 2)
        samples = [(21, 0), (21, 10), (12, 0)]
        views = [np.roll(whole, count, axis=1) if shifted else whole for count, _ in samples]
        chosen = [view[start : start + 10] for view, (_, start) in zip(views, samples, strict=True)]
        videos = torch.stack([to_tensor(resize_crop(frames, (224, 224))) for frames in chosen])
        sides.append(Net()(videos).double().numpy())
    assert entry["value"] == pytest.approx(frechet_distance(*sides), rel=1e-3)


def test_table_and_stride(clips: Path) -> None:
    net = save_net(clips / "net.pt", Net())
    assert evaluate(clips, *net, "--fvd_frames=9", "--sample_rate=2", "--num_frames=10") == 0
    entry = summary(clips)["variants"]["rec"]["rfvd"]
    assert entry["name"] == "rfvd_n1_f9_s2" and entry["value"] is None
    assert evaluate(clips, *net, "--fvd_frames=10", variant="ori") == 0
    assert summary(clips)["variants"]["ori"]["rfvd"]["value"] == pytest.approx(0.0, abs=1e-9)
    rows = [f"demo:stage1:{clips / 'scores/summary.json'}", "--output", str(clips / "metrics.csv")]
    assert main_for("collect-metrics", rows) == 0
    table = pd.read_csv(clips / "metrics.csv")
    assert table["rfvd_name"].tolist() == ["rfvd_n3_f10_s1"] and table["rfvd_features"][0].startswith("torchscript:")


def test_wrong_nets_are_refused(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, right = save_net(clips / "net.pt", WrongNet())
    (clips / "text.pt").write_text("no net")
    text = [f"--fvd_weights={clips / 'text.pt'}", f"--fvd_sha256={sha256_file(clips / 'text.pt')}"]
    for options, message in (
        ([weights], "give its hash"),
        ([weights, "--fvd_sha256=" + "0" * 64], "has sha256"),
        (["--fvd_weights=none.pt"], "no such file"),
        (text, "is not TorchScript"),
        ([weights, right, "--fvd_frames=10"], "does not give (B, D)"),
    ):
        assert evaluate(clips, *options) == 2
        assert message in capsys.readouterr().err


class StrictNet(nn.Module):
    """Convolves more frames than a sample has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(3, 2, (20, 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        """Fail on fewer than 20 frames."""
        return self.layer(video).mean(dim=(2, 3, 4))


class EmptyNet(nn.Module):
    """Divides zero by zero."""

    def forward(self, video: Tensor) -> Tensor:
        """Return (B, 3), not finite."""
        zeros = video.mean(dim=(2, 3, 4)) * 0
        return zeros / zeros


@pytest.mark.parametrize(
    ("net", "message"), [(StrictNet(), "fails on 16 frames of 224x224"), (EmptyNet(), "that are not finite")]
)
def test_a_nets_own_error_is_one_line_before_anything_is_scored(
    clips: Path, net: nn.Module, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips, *save_net(clips / "net.pt", net)) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (clips / "scores").exists()


def test_frames_of_a_sample_have_the_configs_range(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(clips, *save_net(clips / "net.pt", Net()), "--fvd_frames=8") == 2
    said = capsys.readouterr().err
    assert "fvd_frames" in said and "9" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ("20", "1 sample of 20 frames, a distance needs 2"),
        ("22", "no clip holds a sample of 22 frames, the longest has 21"),
    ],
)
def test_no_distance_says_why(clips: Path, frames: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(clips, *save_net(clips / "net.pt", Net()), f"--fvd_frames={frames}") == 0
    entry = summary(clips)["variants"]["rec"]["rfvd"]
    assert entry["value"] is None and entry["reason"].startswith(reason)
    assert f"None ({reason}" in capsys.readouterr().out
    assert summary(clips)["warnings"] == [f"rec: no rFVD, {entry['reason']}"]
