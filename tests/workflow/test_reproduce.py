"""Two runs are told apart by any byte of a result, and by a result that one of them lacks."""

from __future__ import annotations

import runpy
from pathlib import Path

from workflow.workflow_material import ROOT

SCRIPT = runpy.run_path(str(ROOT / "workflow" / "scripts" / "reproduce.py"))


def results(folder: Path, **files: str) -> dict[str, str]:
    where = folder / "results" / "run"
    where.mkdir(parents=True)
    for name, text in files.items():
        (where / name.replace("_", ".")).write_text(text, encoding="utf-8")
    found: dict[str, str] = SCRIPT["results_of"](folder)
    return found


def test_a_changed_byte_and_a_missing_file_are_named(tmp_path: Path) -> None:
    first = results(tmp_path / "a", metrics_csv="1", model_safetensors="w", run_json="today")
    second = results(tmp_path / "b", metrics_csv="2", model_safetensors="w", clip_mkv="x", run_json="tomorrow")
    assert SCRIPT["differences"](first, second) == [
        "results/run/metrics.csv: not the same bytes",
        "results/run/clip.mkv: in one run only",
    ]
    assert SCRIPT["differences"](first, first) == []
