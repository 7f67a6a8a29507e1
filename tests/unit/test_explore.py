"""The notebook is stored without outputs and runs in plain Jupyter; what it calls looks into a finished run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from material import make_video_vae
from report_material import FPS, make_results, moving_clip
from video_vae.data.storage import write_preview
from video_vae.data.video import probe
from video_vae.errors import UserError
from video_vae.explore.study import Study, morph, open_study, save_clip

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "workflow" / "notebooks" / "explore.ipynb"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished experiments, their model and clips, and the config demo.json."""
    folder = tmp_path_factory.mktemp("finished")
    config = make_results(folder / "results", experiments=("demo", "no_identity"))
    make_video_vae(folder / "results" / "demo" / "stage3")
    (folder / "clips").mkdir()
    for index in range(3):
        write_preview(folder / "clips" / f"clip_{index:02d}.mp4", moving_clip(index, 40), FPS)
    (folder / "demo.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def study(finished: Path) -> Study:
    return open_study("demo.json", finished)


def _cells(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def test_the_stored_notebook_is_valid_and_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in _cells(notebook, "code"):
        assert cell.outputs == [] and cell.execution_count is None
        assert len(cell.source.splitlines()) <= 12, "the package does the work"


def test_the_notebook_runs_in_plain_jupyter_after_its_first_cell_is_set(finished: Path) -> None:
    folder = finished / "workflow" / "notebooks"
    folder.mkdir(parents=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = _cells(notebook, "code")[0]
    assert '"config/demo.yaml"' in first.source
    first.source = first.source.replace("config/demo.yaml", "demo.json")
    nbformat.write(notebook, folder / "mine.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", "done.ipynb"]
    result = subprocess.run(
        [*command, str(folder / "mine.ipynb")], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    cells = _cells(nbformat.read(folder / "done.ipynb", as_version=4), "code")
    shown = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= shown
    assert probe(folder / "morph.mp4").num_frames == 33


def _explore(folder: Path, *arguments: str, notebook: Path = NOTEBOOK) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "video_vae", "explore", *arguments, "--notebook", str(notebook)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _notebook(path: Path, *cells: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


def test_the_command_runs_it_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" {of} $mine'
    folder.mkdir()
    asks = "import os\nprint([CONFIG, RESULTS, THREADS, os.getcwd()])\nopen(MORPH, 'w').close()"
    notebook = _notebook(tmp_path / "mine.ipynb", "CONFIG = None", asks)
    result = _explore(
        folder, "{'a'}.json", "--threads", "1", "--output", "out/b.ipynb", "--morph", "c/d.mp4", notebook=notebook
    )
    assert (result.returncode, result.stderr) == (0, f"{notebook}: executed, in out/b.ipynb\n")
    cells = _cells(nbformat.read(folder / "out/b.ipynb", as_version=4), "code")
    said = ["{'a'}.json", "results", 1, str(folder)]
    assert cells[2].outputs[0].text == f"{said}\n"
    assert (folder / "c/d.mp4").is_file()


def test_a_cell_that_fails_is_named_with_what_was_shown_until_then(tmp_path: Path) -> None:
    sources = ["CONFIG = None", "print(CONFIG)", "raise ValueError('enough of', CONFIG)"]
    notebook = _notebook(tmp_path / "mine.ipynb", *sources)
    result = _explore(tmp_path, "a.yaml", "--output", "done.ipynb", notebook=notebook)
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert line.endswith("a cell failed (ValueError: ('enough of', 'a.yaml')); done.failed.ipynb shows where")
    shown = _cells(nbformat.read(tmp_path / "done.failed.ipynb", as_version=4), "code")[2].outputs
    assert shown[0].text == "a.yaml\n" and not (tmp_path / "done.ipynb").exists()


def test_no_notebook_and_somebody_elses_are_told_in_one_line(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path / "mine.ipynb")
    kept = _explore(tmp_path, "a.yaml", "--output", "mine.ipynb")
    none = _explore(tmp_path, "a.yaml", "--output", "new.ipynb", notebook=tmp_path / "none.ipynb")
    assert kept.returncode == none.returncode == 2 and kept.stderr.count("\n") == none.stderr.count("\n") == 1
    assert "mine.ipynb is there and was not written by this command; move it away, or name" in kept.stderr
    assert (tmp_path / "mine.ipynb").read_bytes() == NOTEBOOK.read_bytes()
    assert "none.ipynb: not a readable notebook" in none.stderr


def test_scores_and_comparisons_are_the_reports(study: Study) -> None:
    scores = study.scores()
    assert ("demo", "stage3", "rec") in scores.index and ("demo", "baseline", "mean") in scores.index
    assert str(scores["PSNR, dB ↑"][("demo", "stage3", "rec")]).count(" to ") == 1
    assert any("no_identity" in first for first, _ in study.comparisons().index)


def test_latents_of_a_clip_decode_to_its_length_and_a_morph_ends_in_the_second(study: Study) -> None:
    first, second = study.pair(["clip_02", "clip_00"])
    latents, others = study.encode(first), study.encode(second)
    assert first.shape == (1, 3, 33, 64, 64) and latents.shape[2:] == (9, 8, 8)
    assert study.decode(latents, 33).shape == first.shape
    between = morph(latents, others)
    assert torch.equal(between[:, :, 0], latents[:, :, 0])
    assert torch.allclose(between[:, :, -1], others[:, :, -1])


def test_a_clip_that_is_not_there_is_named_with_those_that_are(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no held-out clip 'clip_9'; there are clip_00, clip_01, clip_02"):
        study.video("clip_9")
    with pytest.raises(UserError, match="1 clips chosen, two are needed"):
        study.pair(["clip_00"])
    assert probe(save_clip(tmp_path / "out.mp4", study.video("clip_00", frames=5))).num_frames == 5
