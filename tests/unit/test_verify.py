"""From a number back to the clips: whatever changed on the way is named, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finished_run import RESULTS, cut, finish_run, verify, written
from video_vae.cli import main
from video_vae.config.slices import stage_slice
from video_vae.provenance import recorded, run_record, write_json_atomic

SUMMARY = f"demo:stage1:{RESULTS}/stage1/metrics/summary.json"
COLLECTED = ["collect-metrics", SUMMARY, "--output", "results/metrics.csv"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: a real manifest and a real table of metrics, with the jobs between them played by small files."""
    folder = tmp_path_factory.mktemp("finished")
    finish_run(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to change at will, as the working folder."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def test_an_untouched_run_is_as_recorded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys, "results/metrics.csv") == (0, ["metrics.csv: 5 jobs, 13 files; all as recorded"])


@pytest.mark.parametrize(
    ("path", "by"),
    [
        ("clips/1.mp4", "results/demo/data/run.json"),
        ("clips.csv", "results/demo/data/run.json"),
        ("results/demo/data/test.csv", "results/demo/data/run.json"),
        ("results/demo/stage1/model/model.safetensors", "results/demo/stage1/run.json"),
        ("results/demo/stage1/reconstruction_rec/0.mkv", "results/demo/stage1/reconstruction/shard_0.run.json"),
        ("resources/lpips/alex.safetensors", "results/demo/stage1/metrics/run.json"),
    ],
)
def test_a_changed_or_lost_file_is_named_with_the_job_that_knows_it(
    run: Path, capsys: pytest.CaptureFixture[str], path: str, by: str
) -> None:
    with Path(path).open("ab") as stream:
        stream.write(b" ")
    status, (line, last) = verify(capsys, "results/metrics.csv")
    assert status == 1 and line.startswith(f"{path}: ") and by in line and last.endswith("differences: 1")
    Path(path).unlink()
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1 and f"{path}: is missing; {by}" in lines[0]


def test_a_number_typed_over_is_named_with_what_its_summary_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = Path("results/metrics.csv")
    table.write_text(table.read_text().replace("24.8100", "34.8100"))
    status, lines = verify(capsys, table)
    assert status == 1
    assert "results/metrics.csv: demo stage1 rec: psnr is 34.8100, its summary says 24.8100" in lines


def test_a_changed_summary_is_named_and_no_longer_gives_the_number(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = RESULTS / "stage1/metrics/summary.json"
    summary.write_text(summary.read_text().replace("24.81", "34.81"))
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1 and lines[0].startswith(f"{summary}: has changed since {summary.parent}/run.json wrote it")
    assert "psnr is 24.8100, its summary says 34.8100" in lines[1]


def test_a_setting_that_a_job_read_is_named_and_a_comment_is_not(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text() + "# a comment\nreport: {title: Other}\n")
    assert verify(capsys, "results/metrics.csv")[0] == 0
    config.write_text(config.read_text().replace("steps: 3", "steps: 4").replace("bootstrap: 7", "bootstrap: 8"))
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1
    assert f"demo.yaml: stages.stage1.steps is 4 now, {RESULTS}/stage1/run.json was made with 3" in lines
    assert f"demo.yaml: evaluation.bootstrap is 8 now, {RESULTS}/stage1/metrics/run.json was made with 7" in lines


def test_a_job_that_kept_other_settings_than_the_newest_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEO_VAE_CONFIG_FILES", "demo.yaml")
    config = Path("demo.yaml")
    config.write_text(config.read_text().replace("clips.csv", "clipz.csv"))
    assert main(COLLECTED) == 0  # now the table's config is the one with the typo, and its file is as it was then
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1
    assert lines[:-1] == [
        f"demo.yaml: data.sources is ['clipz.csv'] now, {RESULTS}/data/run.json was made with ['clips.csv']"
    ]
    config.unlink()
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1 and lines[0].startswith("demo.yaml: config ") and "is missing" in lines[0]


def test_what_the_command_line_changed_in_the_config_is_part_of_it(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text().replace("steps: 3", "steps: 5"))
    monkeypatch.setenv("VIDEO_VAE_CONFIG_FILES", "demo.yaml")
    for steps, status in ((3, 0), (4, 1)):
        monkeypatch.setenv("VIDEO_VAE_CONFIG_GIVEN", json.dumps({"stages": {"stage1": {"steps": steps}}}))
        assert main(COLLECTED) == 0
        found = verify(capsys, "results/metrics.csv")
        assert found[0] == status and len(found[1]) == 1 + status


def test_other_code_and_packages_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = RESULTS / "stage1/run.json"
    record = json.loads(path.read_text())
    record["code"]["sources"] = "0" * 16
    record["packages"]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1
    assert any(line.startswith("src/video_vae: is ") and f"made {path}" in line for line in lines)
    assert any(line.startswith("torch: is ") and f"1.0 made {path}" in line for line in lines)


def test_weights_of_another_training_than_the_one_that_was_read_are_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = written(RESULTS / "stage1/model/model.safetensors", "other weights").parent
    write_json_atomic(
        RESULTS / "stage1/run.json",
        run_record("train", cut(stage_slice, "stage1"), outputs={"model": model}, stage="stage1"),
    )
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1
    assert f"{model}/model.safetensors: is not what {RESULTS}/stage1/reconstruction/shard_0.run.json read" in lines[0]


def test_a_result_without_a_record_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (RESULTS / "stage1/run.json").unlink()
    status, lines = verify(capsys, "results/metrics.csv")
    assert status == 1 and f"{RESULTS}/stage1/model: no record says what made it; make it again" in lines


def test_a_row_shows_its_jobs_and_an_unknown_one_the_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = verify(capsys, "results/metrics.csv", "--row", "demo:stage1")
    assert status == 0
    assert [line.split()[0] for line in lines[:-1]] == ["evaluate", "reconstruct", "train", "manifest"]
    assert main(["verify", "results/metrics.csv", "--row", "demo:stage9"]) == 2
    assert "there are demo:stage1" in capsys.readouterr().err


def test_a_moved_run_is_verified_where_it_lies_now(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = run.rename(run.with_name("moved"))
    monkeypatch.chdir(moved.parent)
    assert verify(capsys, moved / "results/metrics.csv")[0] == 0


def test_quick_reads_no_file_of_the_recorded_size_and_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = RESULTS / "stage1/model/model.safetensors"
    before = weights.stat()
    weights.write_text("w3ights")
    assert verify(capsys, "results/metrics.csv", "--quick")[0] == 1
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verify(capsys, "results/metrics.csv", "--quick")[0] == 0
    assert verify(capsys, "results/metrics.csv")[0] == 1


def test_verifying_needs_no_torch(run: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from video_vae.cli import main; raise SystemExit(main(['verify']))"
    source = str(Path(sys.modules["video_vae"].__file__ or "").parents[1])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, check=False)
    assert done.returncode == 0


def test_a_large_file_is_not_hashed_again_where_its_own_record_knows_it(tmp_path: Path) -> None:
    shard = written(tmp_path / "shard_0.safetensors", "latents")
    record = run_record("encode-latents", None, outputs={"shard": shard})
    record["outputs"]["shard"]["sha256"] = "known"
    write_json_atomic(tmp_path / "shard_0.run.json", record)
    assert recorded(shard)["sha256"] == "known"
    shard.write_text("latentz")
    assert recorded(shard)["sha256"] != "known"
