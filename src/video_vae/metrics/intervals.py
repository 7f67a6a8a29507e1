"""95 % intervals of means, and tests against zero that agree with them; `benchmarks/coverage.py` shows their coverage.

The interval is Student's t, joined with Hall's (1992), which corrects t for the skewness of the values: an end is the
outer one of the two, at most 2.5 times as far from the mean as t's. t alone leaves the truth out too often where values
are skewed, Hall's alone where they are few. Two values say nothing of skewness: t's interval is then 1.4 times as wide.

Clips cut from one source resemble each other, so that the source is what was drawn independently. The mean counts each
clip once; its error comes from leaving out one source at a time (the jackknife), which gives a value for each source.
Where every source gave one clip, or as many as the others, these values are the sources' means, and the interval is
Student's t of them. Where a few sources hold most clips, t has as many degrees of freedom as sources of equal size
would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

CONFIDENCE = 0.95
MIN_SOURCES = 20
"""Fewest sources for a verdict: with 10, some intervals of differences hold the truth in 88 of 100 cases only."""
RULE = "Student's t, widened by Hall's correction for skewness; the source is the unit"
PAIR_WIDTH = 1.4
"""Width of the interval of two values, in units of Student's t's: 96 % of normal cases, 93 % of exponential ones."""
WIDEST = 2.5
"""Most that Hall's correction moves an end away from the mean, in units of Student's t's."""
_EQUAL = 1e-12
"""Spread below which values are equal but for rounding, relative to them."""

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its uncertainty."""

    mean: float
    low: float
    high: float
    """Ends of the 95 % interval; NaN with fewer than 2 sources."""
    p: float
    """Two-sided p of a mean of zero, below 0.05 where the interval leaves zero out; 1 with fewer than 2 sources."""
    clips: int
    sources: int
    """Independent sources; as many as clips where none are known."""


def estimate(values: Values, sources: Sequence[str] | None = None) -> Estimate:
    """Estimate the mean of (N,) finite values, N at least 1, with its 95 % interval.

    Args:
        values: one value per clip.
        sources: name of each clip's source; a clip whose name is empty stands for itself. None: all do.
    """
    units, degrees = source_values(values, sources)
    mean, count = float(values.mean()), len(units)
    known = partial(Estimate, mean=mean, clips=len(values), sources=count)
    if count < 2:
        return known(low=float("nan"), high=float("nan"), p=1.0)
    error = float(units.std(ddof=1) / np.sqrt(count)) * (PAIR_WIDTH if count == 2 else 1)
    if error <= _EQUAL * max(abs(mean), float(np.abs(units).max())):
        return known(low=mean, high=mean, p=float(mean == 0))
    skew = _Skew.of(units)
    limit = float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))
    low = mean - error * min(max(limit, skew.undone(limit)), WIDEST * limit)
    high = mean + error * min(max(limit, -skew.undone(-limit)), WIDEST * limit)
    ratio = mean / error
    # zero lies outside where it is outside of t's interval, and outside of Hall's or of t's at twice its width
    outside = min(abs(ratio), max(abs(skew.corrected(ratio)), abs(ratio) / WIDEST))
    return known(low=low, high=high, p=min(1.0, 2 * float(special.stdtr(degrees, -outside))))


def source_values(values: Values, sources: Sequence[str] | None) -> tuple[Values, float]:
    """Turn (N,) values of clips into a value per source with the same uncertainty of the mean, and t's degrees.

    The values are the jackknife's pseudo-values; they are the clips' own where each stands for itself.
    """
    if sources is None or len(values) < 2:
        return values, len(values) - 1.0
    codes, uniques = pd.factorize(np.array([name or f"\0{place}" for place, name in enumerate(sources)], dtype=object))
    sizes, count = np.bincount(codes).astype(float), len(uniques)
    if count < 2:
        return np.array([values.mean()]), 0.0
    mean, totals = values.mean(), np.bincount(codes, weights=values - values.mean())
    without = mean - totals / (len(values) - sizes)  # the mean of the clips of all other sources
    shares = sizes / len(values)
    return count * mean - (count - 1) * without, max(1.0, 1 / float((shares**2).sum()) - 1)


@dataclass(frozen=True, kw_only=True)
class _Skew:
    """Hall's cubic, which takes the skewness out of a t statistic, and its inverse."""

    shift: float
    bend: float

    @classmethod
    def of(cls, units: Values) -> _Skew:
        """Take the skewness from values, one per independent unit; fewer than three show none."""
        if len(units) < 3:
            return cls(shift=0.0, bend=0.0)
        skewness, root = float(stats.skew(units, bias=False)), len(units) ** 0.5
        return cls(shift=skewness / (6 * root), bend=skewness / (3 * root))

    def corrected(self, t: float) -> float:
        """Return t + bend t^2 + bend^2 t^3 / 3 + shift."""
        return t * (1 + self.bend * t + (self.bend * t) ** 2 / 3) + self.shift

    def undone(self, corrected: float) -> float:
        """Return the t that is corrected to this."""
        rest = corrected - self.shift
        if abs(self.bend) < _EQUAL:
            return rest
        return float((np.cbrt(1 + 3 * self.bend * rest) - 1) / self.bend)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p of several comparisons so that one wrong verdict among all has 5 % (Holm 1979), in their order."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors)
    result = np.empty(len(p_values))
    result[order] = np.minimum(corrected, 1.0)
    return result.tolist()
