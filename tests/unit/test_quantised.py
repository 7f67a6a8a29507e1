"""Quantised latents: their bits are those of an actual coder, and what is shown is decoded of them."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from material import make_clip, make_video_vae
from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.config.runs import reconstruction_owner, resolve
from video_vae.data.storage import read_lossless
from video_vae.data.table import write_table
from video_vae.data.transform import to_tensor, to_uint8
from video_vae.errors import UserError
from video_vae.models import VideoAutoencoderKL
from video_vae.reconstruction.quantisation import FLAG_BITS, RANGE_BITS, adaptive_bits, quantise
from video_vae.reconstruction.rates import mean_psnr


class Adaptive:
    """The probabilities of an adaptive model of order 0, exactly: (2 seen + 1) / (2 all + K)."""

    def __init__(self, symbols: int) -> None:
        self.weights = [1] * symbols

    def interval(self, symbol: int) -> tuple[Fraction, Fraction]:
        """Give the start and the width of a symbol's share of 1."""
        total = sum(self.weights)
        return Fraction(sum(self.weights[:symbol]), total), Fraction(self.weights[symbol], total)

    def learn(self, symbol: int) -> None:
        self.weights[symbol] += 2


def arithmetic_code(message: list[int], symbols: int) -> str:
    """Code a message as the shortest string of bits inside its interval."""
    low, width, model = Fraction(0), Fraction(1), Adaptive(symbols)
    for symbol in message:
        start, share = model.interval(symbol)
        low, width = low + width * start, width * share
        model.learn(symbol)
    length = 0
    while True:
        point = -(-low * 2**length // 1)  # the first multiple of 2^-length at or above low
        if Fraction(point + 1, 2**length) <= low + width:
            return f"{point:0{length}b}" if length else ""
        length += 1


def arithmetic_decode(code: str, count: int, symbols: int) -> list[int]:
    value, model, message = Fraction(int(code or "0", 2), 2 ** len(code)), Adaptive(symbols), []
    for _ in range(count):
        for symbol in range(symbols):
            start, share = model.interval(symbol)
            if start <= value < start + share:
                break
        value = (value - start) / share
        model.learn(symbol)
        message.append(symbol)
    return message


@pytest.mark.parametrize("bits", [2, 4])
def test_the_entropy_coded_size_is_that_of_an_arithmetic_coder(bits: int) -> None:
    values = np.random.default_rng(bits).normal(2**bits / 2, 2**bits / 8, 150).round().clip(0, 2**bits - 1)
    message = values.astype(int).tolist()
    code = arithmetic_code(message, 2**bits)
    assert arithmetic_decode(code, len(message), 2**bits) == message
    counted = adaptive_bits(torch.bincount(torch.tensor(message), minlength=2**bits))
    assert counted <= len(code) <= counted + 2
    assert len(code) < bits * len(message)


def test_the_entropy_coded_size_of_few_symbols_is_as_by_hand() -> None:
    """0, 0, 1 of two symbols: 1/2 times 3/4 times 1/6."""
    assert adaptive_bits(torch.tensor([2, 1])) == pytest.approx(4.0, abs=1e-9)
    counts = torch.tensor([1000, 1000, 1000, 1000])
    assert adaptive_bits(counts) == pytest.approx(8000, abs=3 / 2 * np.log2(4000) + 2)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_numbers_are_quantised_by_channel_over_all_parts(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    whole = torch.randn(1, 4, 5, 3, 2, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 0.0])[:, None, None, None]
    made = quantise([whole[:, :, :2], whole[:, :, 2:]], bits)
    found = torch.cat(made.parts, dim=2)
    for channel in range(4):
        values = whole[0, channel].double().numpy()
        steps = np.linspace(values.min(), values.max(), 2**bits)
        nearest = steps[np.abs(values[..., None] - steps).argmin(axis=-1)]
        np.testing.assert_allclose(found[0, channel].numpy(), nearest, atol=1e-5)
    assert made.raw_bits == 4 * RANGE_BITS + bits * whole.numel()
    assert 4 * (RANGE_BITS + FLAG_BITS) < made.coded_bits <= made.raw_bits + 4 * FLAG_BITS


SETTINGS = {"data": {"resolution": [32, 48]}, "reconstruction": {"max_frames": 9, "windows": 1}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised")
    make_video_vae(folder)
    write_table(folder / "test.csv", [make_clip(folder, "long", 20)])
    command = ["reconstruct", json.dumps(SETTINGS), "--latent-bits", "2", "8", "--no-previews", "--device=cpu"]
    where = [f"--ckpt-path={folder / 'model'}", f"--data-path={folder / 'test.csv'}"]
    assert main([*command, *where, f"--save-dir={folder / 'out/clips'}"]) == 0
    return folder


def _stored(folder: Path, variant: str) -> np.ndarray:
    return read_lossless(folder / f"out/clips_{variant}/long.mkv")[0]


def test_what_is_stored_is_decoded_of_quantised_latents(made: Path) -> None:
    model = VideoAutoencoderKL.from_pretrained(made / "model").eval()
    real = _stored(made, "ori")
    with torch.no_grad():
        latents = model.encode_latents(to_tensor(real)[None])
        low, high = (getattr(latents, name)(dim=(0, 2, 3, 4), keepdim=True) for name in ("amin", "amax"))
        direct = low + ((latents - low) / (high - low) * 255).round() / 255 * (high - low)
        expected = to_uint8(model.decode_latents(direct, len(real))[0])
    assert np.abs(_stored(made, "rec_q8").astype(int) - expected).max() <= 1
    assert (_stored(made, "rec_q8") != _stored(made, "rec")).any()


def test_rates_say_what_each_number_of_bits_costs_and_loses(made: Path) -> None:
    with (made / "out/clips/rates.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["setting"]: row for row in csv.DictReader(stream)}
    real = _stored(made, "ori")
    numbers = 4 * 3 * 4 * 6
    assert list(rows) == ["2", "8"] and {row["name"] for row in rows.values()} == {"rec"}
    for bits, row in rows.items():
        assert int(row["raw_bits"]) == 4 * RANGE_BITS + int(bits) * numbers
        assert int(row["bits"]) <= int(row["raw_bits"]) + 4 * FLAG_BITS
    assert float(rows["8"]["psnr"]) == mean_psnr(real, _stored(made, "rec_q8"))


def test_only_the_last_stage_is_quantised_and_other_stages_stay_shared() -> None:
    quantised = {"reconstruction": {"latent_bits": [8]}}
    runs = resolve(parse_config({"experiment": "base", "experiments": {"more": quantised}}))
    assert [reconstruction_owner(runs, "more", stage) for stage in ("stage1", "stage3", None)] == [
        "base",
        "more",
        "base",
    ]
    assert runs["more"].reconstruction.quantised == "rec_q8" and runs["base"].reconstruction.quantised is None


@pytest.mark.parametrize(("bits", "said"), [([0], "latent_bits"), ([17], "latent_bits"), ([8, 8], "listed twice")])
def test_wrong_numbers_of_bits_are_told(bits: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_config({"reconstruction": {"latent_bits": bits}})
    with pytest.raises(UserError, match="'rec_q8' is the name of a stage or variant"):
        parse_config({"compare": {"rec_q8": {"codec": "x264"}}})
