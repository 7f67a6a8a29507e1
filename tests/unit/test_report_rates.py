"""The report draws codecs and quantised latents by what they cost, averaged as the metrics are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from video_vae.config import parse_config
from video_vae.reconstruction.rates import COLUMNS
from video_vae.report.compare import main_pairs
from video_vae.report.players import clip_sources
from video_vae.report.rates import codec_points, net_points, rate_section
from video_vae.report.rivals import notes
from video_vae.report.tables import Results, load_results
from video_vae.report.terms import variant_label

PIXELS = 1000


def _write(path: Path, rows: list[tuple]) -> None:
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(path, index=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two clips, one of them in two windows; x264 over its budget in one window."""
    folder = tmp_path_factory.mktemp("rates")
    curve = [
        (clip, "x264", crf, PIXELS, bits, 0, 0, psnr)
        for clip, more in (("a", 0), ("a@9", 20), ("b", 30))
        for crf, bits, psnr in ((20, 200 + more, 40.0), (30, 100 + more, 30.0), (40, 40 + more, 20.0))
    ]
    chosen = [(clip, "x264", 29.5, PIXELS, bits, 0, 125, 31.0) for clip, bits in (("a", 110), ("a@9", 124), ("b", 130))]
    _write(folder / "demo/compare/it/reconstruction/shard_0.rates.csv", curve + chosen[:2])
    pd.DataFrame(chosen[2:], columns=list(COLUMNS)).to_csv(
        folder / "demo/compare/it/reconstruction/shard_1.rates.csv", index=False
    )
    net = [("b", "rec", bits, PIXELS, raw - 20, raw, 0, psnr) for bits, raw, psnr in ((4, 65, 24.0), (8, 125, 25.0))]
    _write(folder / "demo/stage3/reconstruction/shard_0.rates.csv", net)
    rows = [("stage3", "rec", 25.1), ("stage3", "rec_q8", 25.0), ("compare", "it", 31.0)]
    table = pd.DataFrame(
        [("demo", *row, 2) for row in rows], columns=["experiment", "stage", "variant", "psnr", "clips"]
    )
    table.to_csv(folder / "metrics.csv", index=False)
    bits = {"latent_bits": [4, 8]}
    config = {"experiment": "demo", "reconstruction": bits, "compare": {"it": {"codec": "x264"}}}
    return load_results(parse_config(config), folder)


def test_windows_are_averaged_within_clips_and_clips_over_shards(results: Results) -> None:
    [points] = codec_points(results)
    curve = points.curve.set_index("setting")
    assert curve["bpp"].to_dict() == pytest.approx({20: 0.220, 30: 0.120, 40: 0.060})
    assert points.stored.bpp == pytest.approx((0.117 + 0.130) / 2) and points.stored.budget == pytest.approx(0.125)
    assert points.over == 1
    net = net_points(results)
    assert net is not None and net.curve["raw_bpp"].tolist() == pytest.approx([0.065, 0.125])


def test_the_figure_and_its_text_say_both_sizes_and_that_it_is_a_reference(results: Results) -> None:
    drawn = {}

    def save(name: str, figure: Figure, description: str) -> str:
        drawn[name] = figure
        return description

    section = rate_section(results, save)
    assert section is not None and "small" in section["reference"] and "lose" in section["reference"]
    net, codec = section["says"]
    first = (
        "The latents take at 8 bits per number 0.1250 bits per pixel at a fixed length, 0.1050 entropy-coded (25.00 dB)"
    )
    assert net.startswith(f"{first}; at 4 bits per number 0.0650 ")
    assert "it takes 0.1235 bits per pixel of the 0.1250" in codec and "1 window took more than allowed" in codec
    assert "its curve has 27.50 dB" in codec  # three quarters from 20 dB at 0.06 to 30 dB at 0.12
    lines = {line.get_label(): line for line in drawn["rate_distortion"].axes[0].lines}
    assert lines["it"].get_xdata() == pytest.approx([0.06, 0.12, 0.22])
    assert lines["Video VAE, coded"].get_ydata() == pytest.approx([24.0, 25.0])


def test_quantised_latents_have_a_name_a_note_and_a_comparison(results: Results, tmp_path: Path) -> None:
    label = variant_label("rec_q8")
    assert label == "Video VAE, latents of 8 bits"
    said = dict(notes(results))
    assert "quantised uniformly by channel" in said[label] and "reference, which small nets lose to" in said["it"]
    assert "rec_q8" in [second.variant for _, second in main_pairs(results)]
    preview = results.root / "demo/stage3/reconstruction_preview/b_rec_q8.mp4"
    preview.parent.mkdir()
    preview.touch()
    assert [source.key for source in clip_sources(results, "b")] == ["rec_q8"]


def test_a_run_without_rates_has_no_figure(tmp_path: Path) -> None:
    results = load_results(parse_config({"experiment": "demo"}), tmp_path)
    assert rate_section(results, lambda *_: "") is None
