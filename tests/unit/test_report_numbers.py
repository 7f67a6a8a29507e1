"""A number of the report is rounded once, and the same wherever it stands: on the page, in scripts, in tables."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from report_material import STEPS, built_config, built_report
from video_vae.config import parse_config
from video_vae.report.players import clip_table, make_players
from video_vae.report.strips import make_strips
from video_vae.report.tables import load_results
from video_vae.report.terms import number, rounded
from video_vae.report.training_view import stage_rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built_report(tmp_path_factory.mktemp("numbers"))


def test_a_number_is_rounded_once_wherever_it_stands(built: tuple[Path, Path]) -> None:
    results = load_results(parse_config(built_config()), built[1])
    results.clips.loc[results.clips["variant"] == "rec", "psnr"] = 26.3254  # as 26.325 it would be 26.32
    players, _ = make_players(results, most=1)
    table = clip_table(results, [])
    column = [entry["key"] for entry in table["columns"]].index("psnr") + 2
    strips, _ = make_strips(results)
    assert {f"{players[0].clip['means']['rec']['psnr']:.2f}", f"{table['rows'][0][column]:.2f}"} == {"26.33"}
    assert any("26.33 dB" in str(vars(strip)) for strip in strips)


@pytest.mark.parametrize("value", [26.3254, 26.325, 26.335, 0.0005, 0.00005, 0.125, 99.995, -0.004, -0.125, 0.0])
def test_scripts_write_a_number_as_the_page_does(value: float) -> None:
    for decimals in range(1, 7):
        given = rounded(value, decimals)
        assert given is not None
        # toFixed: the nearest to the exact value of the float, a half away from zero, a zero without a sign
        fixed = Decimal(given or 0.0).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        assert number(value, decimals) == str(fixed).replace("-", "−"), decimals
        assert number(value, decimals, signed=True).lstrip("+−") == str(abs(fixed)), decimals


def test_a_zero_has_no_minus_sign() -> None:
    assert (number(-0.004), number(-0.004, signed=True), number(-0.006)) == ("0.00", "+0.00", "−0.01")


def _scores(data: dict[str, Any]) -> list[tuple[str, float | None]]:
    """List what scripts write of clips: metric and value, of means, frames and the table."""
    columns = [column["key"] for column in data["table"]["columns"]]
    found = [cell for row in data["table"]["rows"] for cell in zip(columns, row[2:], strict=True)]
    for clip in data["clips"]:
        found += [cell for means in clip["means"].values() for cell in means.items()]
        curves = [curve for series in clip["series"].values() for curve in series.items()]
        found += [(key, value) for key, values in curves for value in values]
    return found


def test_every_score_that_a_script_writes_is_rounded_before(built: tuple[Path, Path]) -> None:
    page = built[0].read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="clips-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    decimals = {entry["key"]: entry["decimals"] for entry in (*data["metrics"], *data["table"]["columns"])}
    known = [(key, value) for key, value in _scores(data) if value is not None]
    assert len(known) > 100 and {"psnr", "lpips", "gap"} <= {key for key, _ in known}
    assert [pair for pair in known if pair[1] != rounded(pair[1], decimals[pair[0]])] == []


def test_the_time_of_a_stage_is_that_of_its_steps(built: tuple[Path, Path]) -> None:
    page, root = built
    assert '<th scope="col" class="num">Steps took</th>' in page.read_text(encoding="utf-8")
    record = root / "demo" / "stage1" / "run.json"
    values = json.loads(record.read_text(encoding="utf-8"))
    assert values["seconds"] == 2.5 * STEPS["stage1"]
    record.write_text(json.dumps({**values, "trained_seconds": 61.0}), encoding="utf-8")
    rows = stage_rows(load_results(parse_config(built_config()), root))
    assert rows[0]["time"] == "1 min 01 s"  # not the job's time, with loading and validation
