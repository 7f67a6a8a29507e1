"""Results, resources, configs and projects may be links to another disk: their names say what lies above them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from clips import write_video
from finished_run import RESULTS, finish_run, verify, written
from video_vae.config import load_config
from video_vae.data.sources import collect
from video_vae.files import lexical, spellings, walk
from video_vae.hub.model_card import trace
from video_vae.init_project import init_project
from video_vae.metrics.pairing import variant_names
from video_vae.provenance import run_record, sha256_path, write_json_atomic
from video_vae.report.tables import load_results
from video_vae.status.status import look

LOG = ".snakemake/log/2026-01-01T000000.000000.snakemake.log"
JOBS = "Job stats:\njob      count\n-----  -------\nall          1\ntotal        1\n\n"
LINKED = ["", "results", "resources", "clips", "results/demo", "results/demo/stage1", "demo.yaml", "."]
"""What lies on another disk; the last is the folder itself."""


def move_away(project: Path, name: str, disk: Path) -> Path:
    """Move a part of a project, or all of it, to another disk and leave a link; return the project's name."""
    if not name:
        return project
    disk.mkdir()
    place = project / name if name != "." else project
    place.rename(disk / "moved")
    place.symlink_to(disk / "moved")
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of stage 1, and of a stage 2 that began from it."""
    folder = tmp_path_factory.mktemp("finished")
    finish_run(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        written(RESULTS / "stage2/model/config.json", "{}")
        inputs = {"init_from": RESULTS / "stage1/model"}
        record = run_record("train", {}, inputs, stage="stage2", experiment="demo")
        write_json_atomic(RESULTS / "stage2/run.json", record)
        table = Path("results/metrics.csv")
        scores = table.read_text(encoding="utf-8")
        written(folder / "second.csv", scores.replace("stage1", "stage2"))
        written(Path(LOG), JOBS)
    return folder


@pytest.fixture(params=LINKED)
def project(request: pytest.FixtureRequest, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run with a part of it behind a link, as the working folder."""
    shutil.copytree(finished, tmp_path / "project")
    place = move_away(tmp_path / "project", request.param, tmp_path / "disk")
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))  # as a shell does
    return place


def test_a_run_behind_links_is_as_recorded(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_recorded = (0, ["metrics.csv: 5 jobs, 13 files; all as recorded"])
    assert verify(capsys, "results/metrics.csv") == as_recorded
    assert verify(capsys, Path("results/metrics.csv").resolve()) == as_recorded
    assert verify(capsys, RESULTS / "stage1/metrics/summary.json")[0] == 0
    Path("newest").symlink_to("results/metrics.csv")
    assert verify(capsys, "newest")[0] == 0
    monkeypatch.chdir(project / "results/demo")
    monkeypatch.setenv("PWD", str(project / "results/demo"))
    assert verify(capsys, "stage1/metrics/summary.json")[0] == 0
    monkeypatch.chdir("/")
    assert verify(capsys, project / "results/metrics.csv") == as_recorded


def test_a_changed_file_behind_a_link_is_named_as_it_was_recorded(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("resources/lpips/alex.safetensors", "clips/1.mp4"):
        with Path(path).open("ab") as stream:
            stream.write(b" ")
    Path("demo.yaml").write_text(Path("demo.yaml").read_text(encoding="utf-8").replace("steps: 3", "steps: 4"))
    status, lines = verify(capsys, "results/metrics.csv")
    named = {line.split(":")[0] for line in lines[:-1]}
    assert status == 1 and named == {"clips/1.mp4", "resources/lpips/alex.safetensors", "demo.yaml"}


def test_status_finds_the_workflow_beside_results_behind_a_link(project: Path) -> None:
    for results in (Path("results"), project / "results"):
        stages, workflow = (seen := look(results)).stages, seen.workflow
        assert workflow is not None and workflow.log.endswith(LOG)
        assert [(stage.experiment, stage.stage) for stage in stages] == [("demo", "stage1"), ("demo", "stage2")]
    Path("mine").symlink_to("results")
    assert look(Path("mine")).workflow is not None


def test_the_card_of_a_model_behind_a_link_has_all_stages_and_scores(project: Path) -> None:
    shutil.move("second.csv", Path("results/metrics.csv").resolve())
    model = RESULTS / "stage2/model"
    Path("best").symlink_to(model)
    layout = model.resolve().parts[-3:] == model.parts[-3:]  # else the real path does not say which run it is
    for name in (model, project / model, Path("best"), *([model.resolve()] if layout else [])):
        origin = trace(name)
        assert [record["stage"] for record in origin.records] == ["stage2", "stage1"], name
        assert [row["psnr"] for row in origin.scores] == ["24.8100"], name


def test_the_report_reads_the_records_of_an_experiment_behind_a_link(project: Path) -> None:
    names = [run.name for run in load_results(load_config("demo.yaml"), Path("results")).runs]
    assert {"demo/data", "demo/stage1", "demo/stage2", "demo/stage1/metrics"} <= set(names)
    assert len(names) == len(set(names))


def test_links_are_walked_once_and_what_lies_there_goes_by_its_own_name(tmp_path: Path) -> None:
    for name in ("real/inner/a.txt", "disk/b.txt", "real/.hidden/c.txt"):
        written(tmp_path / name, name)
    top = tmp_path / "real"
    (top / "a_link").symlink_to(top / "inner")
    (top / "inner" / "loop").symlink_to(top)
    (top / "disk").symlink_to(tmp_path / "disk")
    assert [os.path.relpath(parent, top) for parent, _ in walk(top)] == [".", "inner", "disk"]


def test_weights_behind_a_link_in_a_model_folder_are_part_of_what_it_is(tmp_path: Path) -> None:
    weights = written(tmp_path / "disk" / "weights", "1")
    written(tmp_path / "model" / "config.json", "{}")
    (tmp_path / "model" / "inner").symlink_to(tmp_path / "disk")
    before = sha256_path(tmp_path / "model")
    weights.write_text("2", encoding="utf-8")
    assert sha256_path(tmp_path / "model") != before


def test_what_is_above_a_path_is_what_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "inner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/")  # a stale one, as a program leaves that changed its folder
    assert lexical("link/x") == tmp_path / "link" / "x" and lexical("link/../x") == tmp_path / "disk" / "x"
    assert spellings("link") == [tmp_path / "link", tmp_path / "disk" / "inner"] and spellings(tmp_path) == [tmp_path]
    monkeypatch.chdir("link")
    assert lexical("x") == tmp_path / "disk" / "inner" / "x"
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert lexical("x") == tmp_path / "link" / "x"


def test_a_package_of_links_is_not_listed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("disk", "resources/pkg"):
        Path(place).mkdir(parents=True)
    Path("disk/a.mp4").touch()
    Path("resources/pkg/a.mp4").symlink_to(tmp_path / "disk" / "a.mp4")
    written(Path("table.csv"), "path\npkg/a.mp4\n")
    assert [item.path for item in collect(["table.csv"], ["pkg"]).candidates] == ["resources/pkg/a.mp4"]


def test_a_folder_of_reconstructions_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "out_7").mkdir()
    (tmp_path / "clips_rec").symlink_to(tmp_path / "out_7")
    assert variant_names([tmp_path / "clips_rec"]) == ["rec"]


def test_a_project_keeps_the_name_of_a_link_to_clips(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    write_video(tmp_path / "disk" / "one.mp4", frames=20)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "clips").symlink_to(tmp_path / "disk")
    init_project(tmp_path / "work" / "mine", [tmp_path / "work" / "clips"])
    assert load_config(tmp_path / "work" / "mine" / "config.yaml").data.sources == ("../clips",)
