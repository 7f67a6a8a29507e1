"""`video-vae doctor` says what this machine lacks, and fails only where the config needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from material import make_clip, make_spatial
from video_vae.cli import main
from video_vae.config import parse_config
from video_vae.doctor import machine
from video_vae.doctor.cluster import check_slurm, unedited
from video_vae.doctor.machine import Check, check_network, conv3d_problem, run_checks
from video_vae.doctor.needs import check_sources, check_spatial, check_weights, hub_needs, registry_needs
from workflow.workflow_material import ROOT

NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


def _config(**sections: Any) -> Any:
    return parse_config({"experiment": "mine", **sections})


def _broken(checks: Any) -> list[str]:
    return [check.text for check in checks if check.state == "broken"]


def test_this_machine_is_described_and_a_hub_that_nobody_needs_is_no_fault(tmp_path: Path) -> None:
    variables = {**os.environ, "HF_ENDPOINT": NOBODY, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "video_vae", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {"Python", "packages", "GPU", "video", "disk", "memory", "SLURM", "model hub", "registry"} <= found.keys()
    assert "torch 2" in found["packages"]["text"] and "ffv1" in found["video"]["text"]
    assert found["model hub"]["state"] == "ok" and "nothing here needs it" in found["model hub"]["text"]


def test_a_hub_that_a_config_needs_is_a_fault_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    needs = hub_needs(_config(spatial={"pretrained": "someone/a_vae", "subfolder": "vae"}))
    assert needs == ["spatial.pretrained someone/a_vae"]
    (check,) = check_network("model hub", NOBODY, needs, "download it")
    assert check.state == "broken" and "needed for spatial.pretrained someone/a_vae; download it" in check.text
    assert (
        hub_needs(_config(spatial={"pretrained": None})) == hub_needs(_config(spatial={"pretrained": str(ROOT)})) == []
    )


def test_packages_are_needed_until_they_are_fetched(tmp_path: Path) -> None:
    config = _config()
    assert registry_needs(config, tmp_path) == ["resources.lpips"]
    (tmp_path / "resources/lpips").mkdir(parents=True)
    (tmp_path / "resources/lpips/files.json").write_text("{}", encoding="utf-8")
    assert registry_needs(config, tmp_path) == []


def test_clips_and_weights_that_a_config_names_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path, "clip", 5)
    make_spatial(tmp_path / "spatial")
    good = _config(data={"sources": ["clip.mkv"]}, spatial={"pretrained": "spatial"})
    assert not _broken([*check_sources(good), *check_spatial(good), *check_weights(good)])
    bad = _config(
        data={"sources": ["clip.mkv", "lost"]},
        spatial={"pretrained": "spatial", "sha256": "0" * 64},
        evaluation={"flow_weights": "flow.safetensors"},
    )
    clips, spatial, flow = _broken([*check_sources(bad), *check_spatial(bad), *check_weights(bad)])
    assert "data.sources: lost does not exist" in clips
    assert "spatial.sha256 says 000" in spatial
    assert "evaluation.flow_weights: flow.safetensors does not exist" in flow
    (tmp_path / "spatial" / "config.json").unlink()
    assert "without config.json" in _broken(check_spatial(good))[0]


def test_the_command_ends_with_1_only_if_something_needed_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path, "clip", 5)
    for sources, status in ((["clip.mkv"], 0), (["lost"], 1)):
        config = {"experiment": "mine", "data": {"sources": sources}, "spatial": {"pretrained": None}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        if status:
            with pytest.raises(SystemExit) as stop:
                main(["doctor", "--config", "mine.yaml"])
            assert stop.value.code == 1 and "broken: clips" in capsys.readouterr().out
        else:
            assert main(["doctor", "--config", "mine.yaml"]) == 0
            assert "everything that is needed works" in capsys.readouterr().out


def _tools(folder: Path, **scripts: str) -> str:
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return str(folder)


def test_a_cluster_is_needed_only_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", _tools(tmp_path / "none"))
    assert [check.state for check in check_slurm(needed=False)] == ["note"]
    assert "no SLURM here" in _broken(check_slurm(needed=True))[0]
    silent = f"echo 'sinfo: error: no answer of {'controller ' * 20}' >&2; exit 1"
    lost = _tools(tmp_path / "lost", sinfo=silent, sbatch="", squeue="")
    monkeypatch.setenv("PATH", lost)
    assert "controller ...); ask those who run" in _broken(check_slurm(needed=True))[0]  # cut between words
    # sinfo of a cluster can be had in a test by its answer only
    nodes = ("gpu*|1-00:00:00|64|257000|gpu:a100:8", "gpu*|1-00:00:00|64|257000|gpu:a100:8", "low|30:00|4|8000|(null)")
    tools = _tools(tmp_path / "some", sinfo="\n".join(f"echo '{node}'" for node in nodes), sbatch="", squeue="")
    monkeypatch.setenv("PATH", tools)
    profile = ROOT / "workflow/profiles/slurm/config.yaml"
    few = "set-resources.train_stage3 asks for nodes: 3 nodes, and partition gpu has 2 nodes"
    assert _broken(check_slurm(needed=True, profile=profile)) == [f"{few}: edit the SITE lines of the profile"]
    notes = [check.text for check in check_slurm(needed=True, profile=profile) if check.state == "note"]
    assert "lines marked SITE are as shipped: slurm_partition (line 7), gpu (line 22, 41)," in notes[0]
    text = profile.read_text(encoding="utf-8")
    mine = tmp_path / "config.yaml"
    mine.write_text(text.replace("slurm_partition: gpu  ", "slurm_partition: big  "), encoding="utf-8")
    assert "no partition big (there are gpu, low)" in _broken(check_slurm(needed=True, profile=mine))[0]
    status = "slurm-status-command: squeue"
    changed = text.replace("slurm_partition: gpu  ", "slurm_partition: low  ").replace(status, status[:-6] + "sacct")
    mine.write_text(changed, encoding="utf-8")
    said = "\n".join(_broken(check_slurm(needed=True, profile=mine)))
    for part in ("no sacct", "runtime: 60 minutes", "mem_mb: 16000 MB", "gpu: 8 GPUs", "cpus_per_task: 64 cores"):
        assert part in said
    mine.write_text("default-resources:\n  slurm_partition: gpu\n", encoding="utf-8")
    assert [check.state for check in check_slurm(needed=True, profile=mine)] == ["ok"]


def test_only_lines_of_a_site_that_nobody_edited_are_named(tmp_path: Path) -> None:
    text = (ROOT / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "config.yaml"
    mine.write_text(text, encoding="utf-8")
    before = unedited(mine)
    assert "runtime (line 28, 39)" in before and "slurm_account" not in before  # a comment asks for nothing
    mine.write_text(text.replace("    runtime: 1440  ", "    runtime: 720  ", 1), encoding="utf-8")  # keeps the mark
    after = unedited(mine)
    assert "runtime (line 39)" in after and after.count("(line") == before.count("(line")
    mine.write_text(text.replace("# SITE", "#"), encoding="utf-8")
    assert unedited(mine) == ""


def test_a_package_that_does_not_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise OSError('libfoo.so: cannot open')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine, "PACKAGES", ("broken_package", "numpy"))
    (text,) = _broken(machine.check_python())
    assert "does not import (OSError: libfoo.so: cannot open); make it again: make env" in text


def test_a_check_that_breaks_is_itself_a_finding() -> None:
    def strange() -> Any:
        yield Check(name="first", state="ok", text="")
        raise RuntimeError("a strange machine")

    assert [check.state for check in run_checks([strange])] == ["ok", "note"]


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "bad"),
    [("2.9.0+cu128", 91600, True), ("2.9.1", 91002, True), ("2.9.1", 91501, False), ("2.10.0", 91002, False)],
)
def test_bad_pairs_of_torch_and_cudnn_are_named(torch_version: str, cudnn: int, bad: bool) -> None:
    problem = conv3d_problem(torch_version, cudnn)
    assert (problem is not None) == bad
    assert problem is None or (torch_version in problem and "2.10" in problem)
