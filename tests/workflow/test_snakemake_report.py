"""`snakemake --report`: every result has its category, label and caption, and nothing comes from a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from chromium import BINARY, browser, new_page, wait, watch
from workflow.workflow_material import Checkout


@pytest.fixture(scope="module")
def packed(_finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked report of a finished workflow."""
    folder = tmp_path_factory.mktemp("packed")
    result = _finished.snakemake("--report", str(folder / "workflow.zip"), "--configfile", "config/demo.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(folder / "workflow.zip") as archive:
        archive.extractall(folder)
    return next(folder.glob("*/report.html"))


def test_results_have_categories_labels_and_captions(packed: Path) -> None:
    page = packed.read_text(encoding="utf-8")
    for said in ("Report", "Figures", "Metrics", "metrics, curves and clips", "all runs, stages and variants"):
        assert f'"{said}"' in page, said
    assert "playable\\nclips" in page or "playable clips" in page
    assert "figure.svg" in page


@pytest.mark.skipif(BINARY is None, reason="needs Debian's chromium (apt-get install chromium)")
def test_it_opens_offline(packed: Path) -> None:
    with browser() as chromium:
        page = new_page(chromium, 1280, 900)
        seen = watch(page)
        page.goto(packed.as_uri())
        wait(page, "document.body.innerText.includes('Figures')")
        assert seen.from_outside() == []
