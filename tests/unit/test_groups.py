"""Scores by motion and by length: motion is what the flow says, groups hold each clip once, one group is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from video_vae.config import parse_config
from video_vae.metrics.motion import flow_length
from video_vae.report.groups import group_sections, grouped
from video_vae.report.html import environment
from video_vae.report.sections import FigureWriter
from video_vae.report.tables import Results, load_results


def test_the_length_of_a_flow_is_that_of_its_vectors() -> None:
    flow = torch.zeros(2, 2, 4, 4)
    flow[1, 0], flow[1, 1] = 3.0, -4.0
    assert flow_length(flow).tolist() == [0.0, 5.0]


@pytest.mark.parametrize(
    ("values", "labels", "sizes"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], ["0.10 to 0.20", "0.30 to 0.40", "0.50 to 0.60"], [2, 2, 2]),
        ([0.1, 0.2, 0.3, 0.4], ["0.10 to 0.20", "0.30 to 0.40"], [2, 2]),
        ([17, 99, 99, 33], ["17.00", "33.00", "99.00"], [1, 1, 2]),
        ([0.001, 0.002, 0.003, 0.004], ["0.001 to 0.002", "0.003 to 0.004"], [2, 2]),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0], ["0.00", "1.00 to 3.00"], [5, 3]),
        ([0.1, 0.2, 0.3], [], []),
        ([5.0] * 9, [], []),
        ([np.nan, 1.0], [], []),
    ],
)
def test_clips_are_cut_into_groups_of_like_size(values: list[float], labels: list[str], sizes: list[int]) -> None:
    found = grouped(pd.Series(values, index=[f"c{index}" for index in range(len(values))]), 2)
    assert list(found) == labels and [len(clips) for clips in found.values()] == sizes


def scored(folder: Path, motion: list[float] | None, frames: list[int]) -> Results:
    """Write the scores of a run's clips, each of a source of its own: PSNR is 30 dB less 2 for each pixel of motion."""
    names = [f"c{index}" for index in range(len(frames))]
    moved = np.asarray(motion if motion is not None else [0.0] * len(frames))
    parts = []
    for variant, gap in (("rec", 0.0), ("spatial", 3.0)):
        table = pd.DataFrame({"variant": variant, "clip_id": names, "frames": frames, "psnr": 30 + gap - 2 * moved})
        parts.append(table.assign(source_id=names, **({} if motion is None else {"motion": moved})))
    place = folder / "demo/stage3/metrics"
    place.mkdir(parents=True)
    pd.concat(parts).to_csv(place / "clips.csv", index=False)
    said = [
        {"experiment": "demo", "stage": "stage3", "variant": name, "clips": len(frames)} for name in ("rec", "spatial")
    ]
    pd.DataFrame(said).assign(psnr=30.0).to_csv(folder / "metrics.csv", index=False)
    return load_results(parse_config({"experiment": "demo"}), folder)


def test_the_report_groups_clips_by_motion_and_by_length(tmp_path: Path) -> None:
    results = scored(tmp_path / "results", [0.0, 0.5, 1.0, 1.5, 2.0, 4.0], [17, 33, 33, 33, 33, 33])
    motion, length = group_sections(results, FigureWriter(tmp_path))
    cells = {(row["group"], row["key"]): row["cells"][0] for row in motion["rows"]}
    assert motion["axis"] == "Motion, px per frame" and [m.key for m in motion["metrics"]] == ["psnr"]
    assert [cells[label, "rec"]["text"] for label in ("0.00 to 0.50", "1.00 to 1.50", "2.00 to 4.00")] == [
        "29.50", "27.50", "24.00"
    ]  # fmt: skip
    assert cells["2.00 to 4.00", "spatial"] == {"text": "27.00", "interval": ""}  # of two sources
    short, long = (row for row in length["rows"] if row["key"] == "rec")
    assert (short["group"], short["clips"], short["cells"][0]["interval"]) == ("17", 1, "")
    assert (long["group"], long["clips"]) == ("33", 5) and long["cells"][0]["interval"]
    assert "<svg" in motion["figure"] and (tmp_path / "by_motion.svg").is_file()
    page = environment().get_template("groups.html").render(groups=[motion, length])
    assert "By how much clips move" in page and "29.50" in page


def test_nothing_is_grouped_where_all_clips_are_alike_or_motion_is_unknown(tmp_path: Path) -> None:
    alike = scored(tmp_path / "alike", [1.0] * 6, [33] * 6)
    assert group_sections(alike, FigureWriter(tmp_path)) == []
    unknown = scored(tmp_path / "unknown", None, [17, 17, 33, 33])
    assert [section["axis"] for section in group_sections(unknown, FigureWriter(tmp_path))] == ["Frames scored"]
