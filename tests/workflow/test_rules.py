"""Every rule has a log, an environment and, where it costs time, a benchmark, named after what it makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from workflow.workflow_material import ROOT

READ_RULES = """
import json
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings, StorageSettings

with SnakemakeApi(OutputSettings()) as api:
    settings = ConfigSettings(configfiles=[Path("config/demo.yaml").resolve()])
    workflow = api.workflow(
        ResourceSettings(cores=1),
        config_settings=settings,
        storage_settings=StorageSettings(),
        snakefile=Path("workflow/Snakefile"),
    )._workflow
    rules = [
        {
            "name": rule.name,
            "log": [str(path) for path in rule.log],
            "benchmark": rule.benchmark and str(rule.benchmark),
            "env": rule.conda_env,
            "input": [list(rule.input), list(rule.input.keys())],
            "output": [[str(path) for path in rule.output], list(rule.output.keys())],
            "shell": rule.shellcmd,
        }
        for rule in workflow.rules
    ]
    print("RULES" + json.dumps(rules, default=str))
"""
QUICK = {"convert_lpips", "collect_metrics", "join_latents", "draw_rulegraph", "render_notebook"}
QUICK |= {"write_settings"}
SMALL = {  # rules that need no torch have an environment without it
    "fetch_package": "fetch",
    "prepare_manifest": "tables",
    "collect_metrics": "tables",
    "join_latents": "tables",
    "draw_rulegraph": "snakemake",
}
WILDCARD = re.compile(r"{(\w+)[^{}]*(?:{\d+})?[^{}]*}")


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-c", READ_RULES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = next(line for line in result.stdout.splitlines() if line.startswith("RULES"))
    found = {rule["name"]: rule for rule in json.loads(text.removeprefix("RULES"))}
    for target in ("all", "prepare_offline"):
        assert found.pop(target)["shell"] is None
    return found


def test_every_rule_has_a_log_and_an_environment(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        assert len(rule["log"]) == 1 and rule["log"][0].startswith("logs/"), name
        if name == "write_settings":  # Snakemake's own process
            continue
        assert "{log}" in rule["shell"], name
        assert rule["env"] == f"../../envs/{SMALL.get(name, 'video-vae')}.yaml", name
        assert (ROOT / "workflow/rules" / rule["env"]).is_file(), name


def test_rules_that_cost_time_are_benchmarked(rules: dict[str, dict[str, Any]]) -> None:
    assert {name for name, rule in rules.items() if not rule["benchmark"]} == QUICK


def test_names_are_verb_noun_and_files_are_named(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        assert re.fullmatch(r"[a-z]+_[a-z0-9]+", name), name
        files, names = rule["output"]
        assert len(files) == len(names) or name == "make_report", name


def test_a_log_is_told_apart_by_the_wildcards_of_the_outputs(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        wanted = set(WILDCARD.findall(rule["output"][0][0]))
        assert set(WILDCARD.findall(rule["log"][0])) == wanted, name
        assert not rule["benchmark"] or set(WILDCARD.findall(rule["benchmark"])) == wanted, name


def test_three_stages_are_one_rule_three_times(rules: dict[str, dict[str, Any]]) -> None:
    shells = {rules[f"train_{stage}"]["shell"] for stage in ("stage1", "stage2", "stage3")}
    assert len(shells) == 1


def test_the_snakefile_is_short_and_the_settings_import_fast() -> None:
    snakefile = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
    assert len(snakefile.splitlines()) < 60 and "def " not in snakefile
    assert len((ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8").splitlines()) < 200
    code = "import sys, video_vae.config.slices; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
