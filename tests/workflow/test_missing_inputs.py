"""Results that exist do not hide that what they were made from is gone, as they do in Snakemake."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from document_checks import plan
from video_vae.config import parse_config
from video_vae.config.files import read_settings
from video_vae.config.slices import data_slice
from workflow.workflow_material import Checkout, jobs


def planned(checkout: Checkout, *settings: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Plan the demo with each of some settings changed, or as it is."""
    base = ["snakemake", *before, "--configfile", "config/demo.yaml"]
    pairs = [[f"{key}={json.dumps(value)}" for key, value in given.items()] for given in settings]
    return plan([[*base, "--config", *given] for given in pairs] or [base], checkout.folder)


def test_a_wrong_path_is_an_error_though_all_results_are_there(done: Checkout) -> None:
    typo = {"sources": ["config/demo_clip.csv"]}
    experiment = {"b": {"data": {"sources": ["clipz"]}}}
    found = planned(
        done,
        {"data": typo},
        {"experiment": "new", "data": typo},
        {"experiments": experiment},
        {"data": {"root": "nowhere"}},
        {"spatial": {"pretrained": "workflow/weights/spatial"}},
        {"spatial": {"pretrained": "workflow/weights", "subfolder": "spatial"}},
        {"evaluation": {"flow_weights": "flow.pt"}},
        {"evaluation": {"fvd_weights": "i3d.pt", "fvd_sha256": "0" * 64}},
        {"compare": {"x": {"videos": "nowhere"}}},
        {"compare": {"x": {"spatial": "workflow/weights/spatial"}}},
        {"compare": {"x": {"spatial": "workflow", "subfolder": "spatial"}}},
    )
    keys = ["data.sources", "data.sources", "experiments.b.data.sources", "data.root", "spatial.pretrained"]
    keys += ["spatial.subfolder", "evaluation.flow_weights", "evaluation.fvd_weights"]
    keys += ["compare.x.videos", "compare.x.spatial", "compare.x.subfolder"]
    for key, (status, output) in zip(keys, found, strict=True):
        assert status == 1 and f"\n{key}: " in output and "does not exist" in output, output
        assert "Traceback" not in output
    assert "did you mean config/demo_clips.csv?" in found[0][1]


def test_what_reads_no_clips_goes_on_without_them(own_copy: Checkout) -> None:
    table = own_copy.folder / "config" / "demo_clips.csv"
    table.rename(table.with_suffix(".archived"))
    assert planned(own_copy)[0][0] == 1
    status, output = planned(own_copy, before=("prepare_offline",))[0]
    assert status == 0 and "data.sources" not in output
    assert own_copy.snakemake("--unlock", "--configfile", "config/demo.yaml").returncode == 0


def test_results_of_clips_that_were_moved_away_stay_usable_where_the_config_says_so(own_copy: Checkout) -> None:
    table = own_copy.folder / "config" / "demo_clips.csv"
    settings = parse_config(read_settings(own_copy.folder / "config/demo.yaml"))
    record = {"config": data_slice(settings)}
    (own_copy.folder / "results/demo/data/run.json").write_text(json.dumps(record), encoding="utf-8")
    table.rename(table.with_suffix(".archived"))
    archived = {"archived": True}
    (plain,) = planned(own_copy)
    changed = {"data": {"min_frames": 5} | archived}, {"data": archived, "report": {"title": "Other"}}
    kept, other, title = planned(own_copy, {"data": archived}, *changed)
    assert plain[0] == 1 and "data.archived: true" in plain[1]
    assert kept[0] == 0 and jobs(kept[1]) == {}
    assert other[0] == 1 and "\ndata.archived: config/demo_clips.csv does not exist" in other[1]
    assert title[0] == 0 and jobs(title[1]) == {"write_settings": 1, "make_report": 1, "all": 1}
    table.with_suffix(".archived").rename(table)
    assert jobs(planned(own_copy, {"data": archived})[0][1]) == {}


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("workflow/notebooks/explore.ipynb", "explore.ipynb does not exist"),
        ("workflow/weights/spatial_vae/diffusion_pytorch_model.safetensors", "spatial_vae: 0 weight files"),
    ],
)
def test_what_was_lost_after_the_run_is_named(own_copy: Checkout, lost: str, said: str) -> None:
    (own_copy.folder / lost).unlink()
    status, output = planned(own_copy)[0]
    assert status == 1 and said in output and "Traceback" not in output


def test_the_shards_of_a_spatial_vae_are_files_of_the_jobs_that_read_it(own_copy: Checkout) -> None:
    folder = own_copy.folder / "sharded"
    folder.mkdir()
    name = "diffusion_pytorch_model"
    index = {"weight_map": {"a": f"{name}-1-of-2.safetensors", "b": f"{name}-2-of-2.safetensors"}}
    (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for part in ("config.json", *index["weight_map"].values()):
        (folder / part).write_text("{}", encoding="utf-8")
    status, output = planned(own_copy, {"spatial": {"pretrained": "sharded"}})[0]
    wanted = ", ".join(f"sharded/{part}" for part in ("config.json", f"{name}.safetensors.index.json"))
    assert status == 0 and f"{wanted}, sharded/{name}-1-of-2.safetensors, sharded/{name}-2-of-2.safetensors" in output


def test_weights_of_metrics_that_were_fetched_are_fetched_again_where_a_job_reads_them(own_copy: Checkout) -> None:
    shutil.rmtree(own_copy.folder / "resources" / "lpips")
    assert jobs(planned(own_copy)[0][1]) == {}
    (scored,) = planned(own_copy, {"evaluation": {"bootstrap": 10}})
    assert jobs(scored[1])["fetch_package"] == jobs(scored[1])["convert_lpips"] == 1


def test_deleted_outputs_of_a_finished_run_are_named_with_what_makes_them_again(own_copy: Checkout) -> None:
    results = own_copy.folder / "results/demo"
    assert " gone" not in planned(own_copy)[0][1]
    for name in ("stage2/model", "stage3/reconstruction_rec", "stage3/reconstruction_preview"):
        shutil.rmtree(results / name)
    (results / "baselines/reconstruction/shard_0.csv").unlink()
    status, output = planned(own_copy)[0]
    assert status == 0 and jobs(output) == {}
    lines = [line for line in output.splitlines() if " gone; " in line]
    clips = "results/demo/stage3/reconstruction"
    targets = ["results/demo/stage2/model", f"{clips}/shard_0.csv", "results/demo/baselines/reconstruction/shard_0.csv"]
    assert [f"`snakemake -f {target}`" in line for target, line in zip(targets, lines, strict=True)] == [True] * 3
    assert f"{clips}_rec, {clips}_preview are gone" in lines[1]
    assert jobs(planned(own_copy, before=("-f", targets[1]))[0][1]) == {"reconstruct_clips": 1}
    shutil.rmtree(results / "stage2/metrics")  # what was not scored is made when it is needed
    assert "stage2/model is gone" not in planned(own_copy)[0][1]
