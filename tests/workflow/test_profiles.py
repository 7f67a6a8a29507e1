"""What each profile binds to each rule, as Snakemake plans it, and that jobs can run anywhere: no absolute paths."""

from __future__ import annotations

import re

import pytest
import yaml

from workflow.workflow_material import ROOT, Checkout

SOURCES = ["--config", 'data={"sources": ["clips"]}']
PROFILES = ROOT / "workflow" / "profiles"
LOCAL = {"fetch_package", "convert_lpips", "collect_metrics", "draw_rulegraph", "make_report"}
ON_ONE_GPU = ("cache_latents", "reconstruct_clips", "reconstruct_baselines", "evaluate_clips", "evaluate_baselines")


def _plan(checkout: Checkout, *arguments: str) -> str:
    (checkout.folder / "clips").mkdir(exist_ok=True)
    result = checkout.snakemake("-n", "--printshellcmds", *arguments, "results/metrics.csv", *SOURCES)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def _rules(plan: str) -> dict[str, dict[str, str]]:
    """Read the resources of each planned rule, and under `shell` its command."""
    rules = {}
    for name, text in re.findall(r"^rule (\w+):\n(.*?)(?=^\[|\Z)", plan, re.MULTILINE | re.DOTALL):
        listed = re.search(r"^    resources: (.*)$", text, re.MULTILINE)
        shell = re.search(r"^Shell command: (.*)$", text, re.MULTILINE)
        values = dict(part.split("=", 1) for part in (listed[1] if listed else "").split(", ") if "=" in part)
        rules[name] = values | {"shell": shell[1] if shell else ""}
    return rules


@pytest.fixture(scope="module")
def plan(fresh: Checkout) -> str:
    """The paper's run as typed on a cluster."""
    return _plan(fresh, "--profile", "slurm")


@pytest.fixture(scope="module")
def cluster(plan: str) -> dict[str, dict[str, str]]:
    """Its resources by rule."""
    return _rules(plan)


def test_stages_get_the_papers_machines(cluster: dict[str, dict[str, str]]) -> None:
    for stage in ("train_stage1", "train_stage2"):
        one_node = cluster[stage]
        assert (one_node["nodes"], one_node["gpu"], one_node["ranks"]) == ("1", "8", "8")
        assert "mpi" not in one_node
    many = cluster["train_stage3"]
    assert (many["nodes"], many["tasks"], many["gres"], many["ranks"]) == ("3", "3", "gpu:8", "8")
    assert many["mpi"] == "srun" and "--nodes 3" in many["shell"]


def test_a_training_knows_its_wall_time(cluster: dict[str, dict[str, str]]) -> None:
    for stage in ("train_stage1", "train_stage2", "train_stage3"):
        assert f"--wall-minutes {cluster[stage]['runtime']}" in cluster[stage]["shell"]
        assert cluster[stage]["runtime"] == "1440"


def test_slurm_starts_one_task_a_node_and_the_launcher_the_ranks(cluster: dict[str, dict[str, str]]) -> None:
    for name in (*ON_ONE_GPU, "train_stage1", "train_stage2", "train_stage3"):
        assert cluster[name]["tasks_per_gpu"] == "0", name


def test_every_queued_rule_asks_for_time_memory_cores_and_a_partition(cluster: dict[str, dict[str, str]]) -> None:
    for name in cluster.keys() - LOCAL:
        for resource in ("runtime", "mem_mb", "cpus_per_task", "slurm_partition"):
            assert cluster[name].get(resource), (name, resource)
        assert int(cluster[name]["runtime"]) > 0, name


def test_one_machine_with_many_gpus_gives_each_job_its_set(fresh: Checkout) -> None:
    rules = _rules(_plan(fresh, "--profile", "workflow/profiles/gpus"))
    for name in ON_ONE_GPU:
        assert (rules[name]["gpu"], rules[name]["ranks"]) == ("1", "1"), name
        assert "--gpus 1" in rules[name]["shell"]
    for stage in ("train_stage1", "train_stage2", "train_stage3"):
        assert (rules[stage]["gpu"], rules[stage]["ranks"], rules[stage]["nodes"]) == ("8", "8", "1")


def test_one_machine_with_many_cores_gives_a_training_all_of_them(fresh: Checkout) -> None:
    rules = _rules(_plan(fresh, "--profile", "workflow/profiles/cpu", "--cores", "16"))
    for stage in ("train_stage1", "train_stage2", "train_stage3"):
        assert "--ranks 1 --threads 16" in rules[stage]["shell"]
    assert "--threads 4" in rules["cache_latents"]["shell"]


def test_jobs_name_no_absolute_path(plan: str) -> None:
    for name, values in _rules(plan).items():
        assert not re.search(r"(?<![\w.~-])/\w", values["shell"]), (name, values["shell"])
    files = re.findall(r"^    (?:input|output|log|benchmark): (.*)$", plan, re.MULTILINE)
    assert files and not [path for line in files for path in line.split(", ") if path.startswith("/")]


def test_profiles_name_rules_that_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    known = set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", text, re.MULTILINE))
    for path in PROFILES.glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        named = {*profile.get("set-threads", {}), *profile.get("set-resources", {})}
        assert named <= known, path
