"""A rival costs its own jobs alone, and is made again only where what it is made from or seen with changes."""

from __future__ import annotations

import json
import shutil

from workflow.workflow_material import Checkout, jobs

RIVAL = {"reconstruct_rival": 1, "evaluate_rival": 1}
TABLES = {"collect_metrics": 1, "make_report": 1, "explore_model": 1, "render_notebook": 1, "all": 1}
SPATIAL = {"sd_vae": {"spatial": "workflow/weights/spatial_vae"}}
VIDEOS = {"theirs": {"videos": "videos"}}


def _run(checkout: Checkout, compare: dict, *arguments: str) -> dict[str, int]:
    config = ["--configfile", "config/demo.yaml", "--config", f"compare={json.dumps(compare)}"]
    result = checkout.snakemake(*arguments, *config)
    assert result.returncode == 0, result.stdout + result.stderr
    planned = jobs(result.stdout + result.stderr)
    return {rule: count for rule, count in planned.items() if rule != "write_settings"}


def test_a_rival_is_computed_alone_and_again_only_where_it_changed(own_copy: Checkout) -> None:
    videos = own_copy.folder / "videos"
    videos.mkdir()
    (videos / "clip.mp4").write_bytes(b"video")
    assert _run(own_copy, SPATIAL, "-n") == RIVAL | TABLES
    _run(own_copy, SPATIAL)
    assert (own_copy.folder / "results/demo/compare/sd_vae/metrics/summary.json").is_file()
    both = SPATIAL | VIDEOS
    assert _run(own_copy, both, "-n") == RIVAL | TABLES
    _run(own_copy, both)
    rows = (own_copy.folder / "results/metrics.csv").read_text(encoding="utf-8")  # the stand-in writes its arguments
    assert "demo:compare:results/demo/compare/theirs/metrics/summary.json" in rows
    (videos / "clip.mp4").write_bytes(b"another")
    assert _run(own_copy, both, "-n") == RIVAL | TABLES
    weights = own_copy.folder / "workflow/weights/spatial_vae"
    shutil.copytree(weights, own_copy.folder / "other_vae")
    other = VIDEOS | {"sd_vae": {"spatial": "other_vae"}}
    assert _run(own_copy, other, "-n", "results/demo/compare/sd_vae/metrics/summary.json") == RIVAL


def test_other_windows_or_shards_make_a_rival_anew_and_training_does_not(done: Checkout) -> None:
    target = "results/demo/compare/sd_vae/metrics/summary.json"
    wider = done.plan(target, compare=SPATIAL, reconstruction={"shards": 3})
    assert wider["reconstruct_rival"] == 3 and "train_stage1" not in wider
    trained = done.plan(compare=SPATIAL, stages={"stage3": {"learning_rate": 3e-5}})
    assert trained["reconstruct_rival"] == trained["train_stage3"] == 1


def test_a_rival_of_several_runs_is_made_once(done: Checkout) -> None:
    experiments = {"no_kl": {"stages": {"stage3": {"kl_weight": 0.0}}}, "without": {"compare": {"sd_vae": None}}}
    planned = done.plan(compare=SPATIAL, experiments=experiments)
    assert planned["reconstruct_rival"] == planned["evaluate_rival"] == 1


def test_a_codec_costs_its_own_jobs_and_quantised_latents_those_of_the_last_stage(done: Checkout) -> None:
    planned = done.plan(compare={"x265": {"codec": "x265"}}, reconstruction={"latent_bits": [4, 8]})
    assert {rule: count for rule, count in planned.items() if rule in RIVAL} == RIVAL
    assert planned["reconstruct_clips"] == planned["evaluate_clips"] == 1
    assert not [rule for rule in planned if rule.startswith("train")]
