"""How often the 95 % intervals hold the truth: drawn clips, clips of shared sources, this project's own scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.common import OURS, Options, markdown
from video_vae.metrics.intervals import estimate

Values = NDArray[np.float64]
Ends = tuple[float, float]
Rule = Callable[[Values], Ends]

CLIPS = (2, 3, 5, 7, 10, 20, 30, 50, 100)
SCORES = Path(__file__).with_name("clip_scores.csv")
"""Scores of 125 windows of 17 frames from 11 real videos, by the demo's net and the baselines, 96x96."""
METRICS = ("psnr", "ssim", "lpips", "flolpips", "flicker")
RESAMPLES = 1000


def student(values: Values) -> Ends:
    """Return Student's t interval, as scipy has it."""
    found = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def percentile(values: Values, draws: np.random.Generator) -> Ends:
    """Return the percentile bootstrap's interval."""
    means = values[draws.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ours(values: Values, sources: Sequence[str] | None = None) -> Ends:
    """Return the interval that results have."""
    found = estimate(values, sources)
    return found.low, found.high


def coverage(rule: Rule, draws: Values, truth: float) -> float:
    """Return the share of draws, (N, clips), whose interval holds the truth, in percent."""
    ends = np.array([rule(values) for values in draws])
    return float(100 * np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def cases(options: Options, count: int) -> int:
    """Return how many cases are drawn."""
    return 50 if options.quick else count


def _drawn(options: Options) -> str:
    generator = np.random.default_rng(0)
    rules: dict[str, Rule] = {
        "percentile bootstrap": partial(percentile, draws=np.random.default_rng(1)),
        "Student's t": student,
        OURS: ours,
    }
    spreads: dict[str, tuple[Callable[[Values], Values], float]] = {
        "normal": (lambda normal: normal, 0.0),
        "log-normal": (lambda normal: np.exp(normal / 2), float(np.exp(1 / 8))),
        "exponential": (lambda normal: -np.log(stats.norm.sf(normal)), 1.0),
    }
    rows = []
    for clips in CLIPS:
        normal = generator.normal(size=(cases(options, 4000), clips))
        found = [coverage(rule, turned(normal), truth) for turned, truth in spreads.values() for rule in rules.values()]
        rows.append([clips, *(f"{share:.1f}" for share in found)])
    header = ["clips", *(f"{spread}: {rule}" for spread in spreads for rule in rules)]
    return markdown("Cases of 100 in which a 95 % interval holds the truth, drawn clips", header, rows)


def _of_sources(options: Options) -> str:
    generator = np.random.default_rng(2)
    rows = []
    for text, sizes in (
        ("5 of 4 clips", (4,) * 5),
        ("5 of 1 to 6", (1, 2, 3, 4, 6)),
        ("10 of 1 to 8", (1, 1, 2, 2, 3, 3, 4, 5, 6, 8)),
        ("30 of 1 to 8", tuple(generator.integers(1, 9, 30))),
        ("6, one of 40, five of 1", (40, 1, 1, 1, 1, 1)),
    ):
        names = [str(index) for index, size in enumerate(sizes) for _ in range(size)]
        shared = np.repeat(generator.normal(size=(cases(options, 4000), len(sizes))), sizes, axis=1)
        draws = shared + generator.normal(size=shared.shape)
        found = [coverage(rule, draws, 0.0) for rule in (ours, partial(ours, sources=names))]
        rows.append([text, *(f"{share:.1f}" for share in found)])
    title = "The same where clips share their sources, which make half of the variance"
    return markdown(title, ["sources", "clips taken as independent", OURS], rows)


def populations() -> dict[str, dict[str, Values]]:
    """Read the scores of this project's clips: by variant and metric, and the differences of `rec` from the others."""
    table = pd.read_csv(SCORES).pivot_table(index="clip_id", columns="variant", values=list(METRICS))
    others = ("spatial", "repeat", "mean")
    return {
        "scores": {f"{m} {v}": table[m][v].to_numpy() for m in METRICS for v in ("rec", *others)},
        "differences": {f"{m} {v}": (table[m]["rec"] - table[m][v]).to_numpy() for m in METRICS for v in others},
    }


def _own(options: Options) -> str:
    generator = np.random.default_rng(3)
    rows = []
    for clips in CLIPS:
        row: list[object] = [clips]
        for named in populations().values():
            shares = []
            for values in named.values():
                draws = values[generator.integers(0, len(values), (cases(options, 1000), clips))]
                shares.append(coverage(ours, draws, float(values.mean())))
            inside = sum(93 <= share <= 97 for share in shares)
            row += [f"{np.median(shares):.1f}", f"{min(shares):.1f} to {max(shares):.1f}", f"{inside} of {len(shares)}"]
        rows.append(row)
    header = ["clips"]
    for what in ("scores", "differences"):
        header += [f"{what}: median", "lowest to highest", "within 93 to 97"]
    return markdown(f"{OURS} on this project's own scores: 5 metrics, 4 variants, 3 differences", header, rows)


def run(options: Options) -> str:
    """Draw cases of known truth and count how often intervals hold it."""
    return _drawn(options) + _of_sources(options) + _own(options)
