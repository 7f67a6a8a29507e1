"""The whole way, smaller than the demo: a folder of own clips, three of them broken, to metrics.csv and the report."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from material import BROKEN, TEMPORAL, make_video_vae, write_clips
from tiny_material import SETTINGS, copy_project
from video_vae.files import sha256_file

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of this project with clips of its own, after one run of the workflow."""
    folder = tmp_path_factory.mktemp("tiny") / "user's folder"
    copy_project(folder)
    write_clips(folder / "clips", frames=12)
    # One setting comes from the command line: it is part of what `verify` compares.
    data = {key: value for key, value in SETTINGS["data"].items() if key != "min_frames"}
    runs = SETTINGS["experiments"] | {"published": _published(folder)}
    (folder / "tiny.json").write_text(json.dumps(SETTINGS | {"data": data, "experiments": runs}), encoding="utf-8")
    result = _snakemake(folder)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]
    return folder


def _published(folder: Path) -> dict[str, Any]:
    """Write a checkpoint that has the published names and says nothing of its net; return the run that scores it."""
    net = make_video_vae(folder / "outside")
    save_file(
        {name: value.contiguous() for name, value in net.state_dict().items()}, folder / "outside/vae.safetensors"
    )
    model = {"pretrained": "outside/vae.safetensors", "temporal": {**TEMPORAL, "init": "random"}, "scaling_factor": 0.5}
    return {"model": model, "spatial": {"pretrained": "outside/spatial"}, "stages": None}


def _snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Two jobs at once with a thread each: the nets are so small that most of the time goes into starting.
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--max-threads", "1", "--configfile", "tiny.json"]
    command += ["--config", f"data={json.dumps({'min_frames': SETTINGS['data']['min_frames']})}", "--"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_metrics_have_a_row_for_each_run_stage_and_variant(checkout: Path) -> None:
    rows = _rows(checkout / "results" / "metrics.csv")
    stages = [(stage, variant) for stage in ("stage1", "stage2", "stage3") for variant in ("rec", "spatial")]
    others = [("baseline", "mean"), ("baseline", "repeat"), ("compare", "sd")]
    expected = [(name, *row) for name in ("tiny", "no_kl") for row in [*stages, *others]]
    expected += [("published", *row) for row in [("start", "rec"), ("start", "spatial"), *others]]
    assert sorted((row["experiment"], row["stage"], row["variant"]) for row in rows) == sorted(expected)
    for row in rows:
        for metric in ("psnr", "ssim", "lpips", "flolpips", "flicker"):
            assert np.isfinite(float(row[metric])), (metric, row)
        assert "dis" in row["flow"].lower()


def test_broken_files_end_in_rejected_csv_with_a_reason(checkout: Path) -> None:
    rejected = _rows(checkout / "results" / "tiny" / "data" / "rejected.csv")
    assert {Path(row["path"]).name for row in rejected} == set(BROKEN)
    assert all(row["reason"] for row in rejected)
    manifest = _rows(checkout / "results" / "tiny" / "data" / "manifest.csv")
    assert len(manifest) == 5


def test_a_run_that_differs_in_stage_3_shares_the_stages_before_it(checkout: Path) -> None:
    assert not (checkout / "results" / "no_kl" / "stage1").exists()
    assert not (checkout / "results" / "no_kl" / "stage2").exists()
    assert (checkout / "results" / "no_kl" / "stage3" / "model" / "config.json").exists()


def test_weights_from_outside_are_scored_and_reported_without_training(checkout: Path) -> None:
    results = checkout / "results" / "published"
    assert {path.name for path in results.iterdir()} == {"start", "baselines", "settings"}
    record = json.loads((results / "start" / "run.json").read_text(encoding="utf-8"))
    assert record["pretrained"] == "outside/vae.safetensors"
    assert record["pretrained_sha256"] == sha256_file(checkout / "outside" / "vae.safetensors")
    page = (checkout / "reports" / "report.html").read_text(encoding="utf-8")
    assert "published" in page and "outside/vae.safetensors" in page


def test_all_clips_become_latents_where_asked_for(checkout: Path) -> None:
    target = "results/tiny/latents_video/index.csv"
    result = _snakemake(checkout, target)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    rows = _rows(checkout / target)
    assert {row["clip_id"] for row in rows} == {
        row["clip_id"] for row in _rows(checkout / "results/tiny/data/manifest.csv")
    }
    for row in rows:
        with safe_open(checkout / "results/tiny/latents_video" / row["file"], "pt") as file:
            assert file.get_tensor(row["clip_id"]).shape == (4, 3, 4, 4)
    assert len({row["file"] for row in rows}) == 2  # latents.shards


def test_the_report_stands_alone(checkout: Path) -> None:
    page = (checkout / "reports" / "report.html").read_text(encoding="utf-8")
    previews = len(list((checkout / "results" / "tiny" / "stage3" / "reconstruction_preview").glob("*.mp4")))
    assert previews == 6 and page.count("Z0eXBpc29t") >= previews  # "ftypisom", the start of every mp4, in base64
    assert "truncated.mp4" in page
    assert 'src="http' not in page and 'href="http' not in page.replace('href="https://arxiv.org', "")


def test_the_notebook_ran_and_its_page_stands_alone(checkout: Path) -> None:
    executed = json.loads((checkout / "results" / "explore" / "explore.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code) and sum(bool(cell["outputs"]) for cell in code) >= 8
    page = (checkout / "reports" / "explore.html").read_text(encoding="utf-8")
    assert "Between two clips" in page and "data:video/mp4;base64," in page and "no_kl" in page
    assert 'src="http' not in page and "<script src" not in page
    assert 'href="explore.html"' in (checkout / "reports" / "report.html").read_text(encoding="utf-8")


def test_stages_on_pixels_train_on_prepared_clips_and_scores_look_at_the_clips(checkout: Path) -> None:
    records = {
        stage: json.loads((checkout / "results" / "tiny" / stage / "run.json").read_text(encoding="utf-8"))
        for stage in ("stage1", "stage3")
    }
    assert records["stage1"]["prepared"] is None and records["stage3"]["prepared"]["prepare"] == "h264"
    assert records["stage3"]["prepared"]["psnr"] > 20  # random colours of three pixels, coded in 4:2:0
    page = (checkout / "reports" / "report.html").read_text(encoding="utf-8")
    assert "clips prepared as h264" in page and "again by scikit-image" in page


def test_logs_hold_each_step_once(checkout: Path) -> None:
    for stage in ("stage1", "stage2", "stage3"):
        lines = (checkout / "results" / "tiny" / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        assert [record["step"] for record in records if record["event"] == "train"] == [1, 2]


def test_a_second_run_does_nothing(checkout: Path) -> None:
    result = _snakemake(checkout)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


def test_every_number_goes_back_to_files_that_are_still_the_same(checkout: Path) -> None:
    def verify(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "video_vae", "verify", "results/metrics.csv", *options]
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

    result = verify()
    assert result.returncode == 0, result.stdout
    assert result.stdout.endswith("all as recorded\n")
    changed = [
        "clips/clip 0.mp4",
        "resources/lpips/vgg.safetensors",
        "results/tiny/data/train.csv",
        "results/tiny/spatial/config.json",
        "results/tiny/stage1/model/config.json",
        next(checkout.glob("results/tiny/stage2/reconstruction_ori/*.mkv")).relative_to(checkout).as_posix(),
        "results/no_kl/stage3/metrics/frames.parquet",
    ]
    originals = {name: (checkout / name).read_bytes() for name in changed}
    for name, content in originals.items():
        (checkout / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = verify()
    for name, content in originals.items():
        (checkout / name).write_bytes(content)
    assert result.returncode == 1
    assert {line.split(": ")[0] for line in result.stdout.splitlines()[:-1]} == set(changed)
    assert verify("--row", "no_kl:stage3").returncode == 0
