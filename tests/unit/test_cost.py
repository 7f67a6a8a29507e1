"""What runs are computed to cost: sizes by their shares, halves of the nets, several runs of a config."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks.cost import of_a_clip, table

from material import TEMPORAL

WIDE = [{"resolution": [32, 32], "share": 1}, {"resolution": [64, 64], "share": 3}]


def config(**changes: Any) -> str:
    stage = {"steps": 1000, "global_batch": 8, **changes}
    left_out = {"stage2": None, "stage3": None}
    experiments = {"decoders": {"stages": {"stage1": {"train": ["decoder"], "identity_weight": 0.0}}}}
    settings = {"model": {"temporal": TEMPORAL}, "experiments": experiments, "stages": {"stage1": stage, **left_out}}
    return json.dumps(settings)


def test_a_clip_costs_the_mean_of_the_sizes_by_their_shares() -> None:
    small, large, both = (config(buckets=buckets) for buckets in (WIDE[:1], WIDE[1:], WIDE))
    each = [of_a_clip(text, "paper", "stage1") for text in (small, large)]
    assert each[1] == pytest.approx(4 * each[0], rel=0.05)
    assert of_a_clip(both, "paper", "stage1") == pytest.approx((each[0] + 3 * each[1]) / 4, rel=1e-9)


def test_the_decoders_alone_cost_less_and_each_run_has_its_rows() -> None:
    text = config(buckets=WIDE[:1])
    whole, decoders = (of_a_clip(text, run, "stage1") for run in ("paper", "decoders"))
    assert 0.4 < decoders / whole < 0.9
    rows = [line.split(" | ")[:2] for line in table(text).splitlines()[2:]]
    assert [name for name, _ in rows] == ["| paper, 1", "| paper, all", "| decoders, 1", "| decoders, all"]
    assert rows[0][1] == "8,000"
