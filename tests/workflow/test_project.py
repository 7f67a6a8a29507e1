"""A project folder runs the workflow as it says, keeps what comes out, and goes on after a move with its parent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clips import write_video
from video_vae.cli import main
from video_vae.config import load_config
from video_vae.errors import UserError
from video_vae.init_project import filled, init_project
from video_vae.report.lost import Lost
from video_vae.report.provenance_view import rerun_commands
from video_vae.report.typed import typed
from workflow.workflow_material import Checkout, copy_checkout, jobs


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A folder with clips and a checkout of video-vae, whose jobs are stand-ins."""
    folder = tmp_path / "some where"
    (folder / "clips").mkdir(parents=True)
    write_video(folder / "clips" / "one.mp4", frames=20)
    write_video(folder / "clips" / "two.mp4", frames=20)
    copy_checkout(folder / "video-vae")
    return folder


def _run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools}
    return subprocess.run(
        ["./run", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_the_folder_runs_keeps_its_results_and_moves_with_its_parent(parent: Path) -> None:
    checkout = Checkout(parent / "video-vae").folder
    project = parent / "my project"
    assert init_project(project, [parent / "clips"], checkout=checkout) == 2
    result = _run(project, "results/my_project/data/train.csv")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (project / "results" / "my_project" / "data" / "train.csv").is_file()
    assert "tensorboard --logdir results\n" in result.stderr and "video-vae status --watch\n" in result.stderr
    assert not (checkout / "results").exists() and not (checkout / ".snakemake").exists()

    moved = parent.rename(parent.with_name("else where"))
    planned = _run(moved / "my project", "-n")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "prepare_manifest" not in jobs(planned.stdout + planned.stderr)
    assert "tensorboard" not in planned.stdout + planned.stderr
    write_video(moved / "clips" / "three.mp4", frames=20)
    planned = _run(moved / "my project", "-n")
    assert jobs(planned.stdout + planned.stderr)["prepare_manifest"] == 1


def test_the_config_holds_the_clips_and_nothing_of_the_demo(parent: Path) -> None:
    checkout = parent / "video-vae"
    init_project(parent / "mine", [parent / "clips"], checkout=checkout)
    config = load_config(parent / "mine" / "config.yaml")
    assert (config.experiment, config.data.sources, config.data.packages) == ("mine", ("../clips",), ())
    assert config.data.zoom == 1 and list(config.resources) == ["lpips"]
    assert config.spatial.pretrained == "../video-vae/workflow/weights/spatial_vae"
    init_project(parent / "big", [parent / "clips"], size="paper", slurm=True, checkout=checkout)
    paper, own = load_config(checkout / "config" / "config.yaml"), load_config(parent / "big" / "config.yaml")
    assert (own.stages, own.model, own.spatial) == (paper.stages, paper.model, paper.spatial)
    profile = (parent / "big" / "profile" / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(profile)["executor"] == "slurm" and "SITE" in profile


def test_no_comment_of_the_config_says_of_own_clips_what_was_found_on_the_demos(parent: Path) -> None:
    init_project(parent / "mine", [parent / "clips"], checkout=parent / "video-vae")
    text = (parent / "mine" / "config.yaml").read_text(encoding="utf-8")
    comments = " ".join(line.strip(" #") for line in re.findall("#.*", text))
    found = [sentence for sentence in comments.split(". ") if re.search(r"[0-9] dB|[0-9] %", sentence)]
    assert found and [sentence for sentence in found if "the demo" not in sentence] == []
    assert "this project" not in comments


def test_a_clusters_profile_is_filled_in_and_stages_fit_the_nodes(
    parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(name: str, *given: str) -> dict[str, Any]:
        command = ["init", str(parent / name), "--videos", str(parent / "clips"), "--slurm", *given]
        assert main(command) == 0
        profile: dict[str, Any] = yaml.safe_load((parent / name / "profile/config.yaml").read_text(encoding="utf-8"))
        return profile

    site = ("--partition", "a100", "--account", "me", "--constraint", "fast&big")
    one = made("one", *site, "--gpus", "4", "--nodes", "1")
    defaults, stages = one["default-resources"], one["set-resources"]
    assert [defaults[f] for f in ("slurm_partition", "slurm_account", "constraint")] == ["a100", "me", "fast&big"]
    assert stages["train_stage3"] == stages["train_stage1"] and (
        defaults["runtime"],
        stages["train_stage1"]["gpu"],
    ) == (60, 4)
    assert stages["train_stage1"]["ranks"] == 4 and stages["cache_latents"]["gpu"] == 1
    text = (parent / "one/profile/config.yaml").read_text(encoding="utf-8")
    assert 'gpu: 4    # a node\'s GPUs. Where --gpus is refused: gres: "gpu:4", or "gpu:a100:4";\n' in text
    assert "--gpus-per-node=4" in text and "SITE" not in text.partition("gpu: 4")[2].partition("\n")[0]
    stage3 = made("two", "--gpus", "4", "--nodes", "2")["set-resources"]["train_stage3"]
    assert [stage3[key] for key in ("nodes", "tasks", "gres", "ranks")] == [2, 2, "gpu:4", 4]
    driver = (parent / "one" / "driver.sbatch").read_text(encoding="utf-8")
    assert "#SBATCH --partition=a100\n#SBATCH --account=me\n" in driver
    subprocess.run(["bash", "-n", str(parent / "one" / "driver.sbatch")], check=True)
    assert made("none")["set-resources"]["train_stage3"]["nodes"] == 3

    for wrong, said in (
        (["--slurm", "--gpus", "3"], "global_batch is 8, which does not divide by 3 ranks"),
        (["--slurm", "--nodes", "0"], "--nodes 0: give at least 1"),
        (["--slurm", "--partition", "a b"], "--partition 'a b' is no name of SLURM's"),
        (["--gpus", "4"], "--gpus says where jobs of a cluster run; add --slurm"),
    ):
        assert main(["init", str(parent / "bad"), "--videos", str(parent / "clips"), *wrong]) == 2
        assert said in capsys.readouterr().err and not (parent / "bad").exists()


def test_run_says_in_one_line_why_a_cluster_would_refuse(parent: Path) -> None:
    init_project(parent / "mine", [parent / "clips"], slurm=True, checkout=parent / "video-vae")
    tools = parent / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "python3"):
        (tools / name).symlink_to(shutil.which(name) or "")
    (tools / "snakemake").write_text("#!/bin/sh\necho started\n", encoding="utf-8")
    (tools / "snakemake").chmod(0o755)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tools / "python").chmod(0o755)

    def run() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": str(tools)}
        return subprocess.run(["./run"], cwd=parent / "mine", env=environment, capture_output=True, text=True)

    none = run()
    assert (none.returncode, none.stdout) == (1, "")
    where = "start the workflow on the login node of a cluster"
    assert none.stderr == f"run: profile/config.yaml: no SLURM here: {where}\n"
    for name, line in (("sinfo", "big|1-00:00:00|64|500000|gpu:8"), ("sbatch", ""), ("squeue", "")):
        (tools / name).write_text(f"#!/bin/sh\necho '{line}'\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    other = run()
    assert other.returncode == 1 and "no partition gpu (there are big): edit the SITE lines" in other.stderr
    profile = parent / "mine/profile/config.yaml"
    text = filled(profile.read_text(encoding="utf-8"), {"partition": "big", "nodes": 1})
    profile.write_text(text, encoding="utf-8")
    noted = run()
    assert noted.stdout == "started\n" and noted.stderr.count("run: note: ") == 1
    left = "run: note: profile/config.yaml: lines marked SITE are as shipped: gpu (line 22, "
    assert left in noted.stderr and "slurm_partition" not in noted.stderr and "nodes" not in noted.stderr
    profile.write_text(text.replace("# SITE", "#"), encoding="utf-8")
    assert "SITE" not in run().stderr


def test_commands_of_a_report_start_the_workflow_where_they_are_typed(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_project(parent / "mine", [parent / "clips"], checkout=parent / "video-vae")
    monkeypatch.chdir(parent / "mine")
    assert rerun_commands(["train_stage2"], "config.yaml") == [
        ("what is missing or out of date", "./run results/metrics.csv reports/report.html"),
        ("train_stage2", "./run -R train_stage2 --until train_stage2"),
    ]
    assert "`./run -f a.csv` makes it again" in str(Lost(paths=("a",), targets=("a.csv",)))
    Path("run").write_text("#!/bin/sh\necho mine\n", encoding="utf-8")  # somebody's own script
    theirs = "snakemake reports/explore.html --configfile 'my config.yaml'"
    assert typed("reports/explore.html", "my config.yaml") == theirs


def test_a_single_video_is_split_into_pieces(parent: Path) -> None:
    init_project(parent / "mine", [parent / "clips" / "one.mp4"], checkout=parent / "video-vae")
    split = load_config(parent / "mine" / "config.yaml").data.split
    assert (split.by, split.segment_frames, split.test_fraction) == ("segment", 33, 0.2)


def test_the_profile_of_a_machine_with_gpus_has_their_number(parent: Path) -> None:
    init_project(parent / "mine", [parent / "clips"], gpus=4, checkout=parent / "video-vae")
    profile = yaml.safe_load((parent / "mine" / "profile" / "config.yaml").read_text(encoding="utf-8"))
    assert profile["resources"] == ["gpu=4"]
    stage = profile["set-resources"]["train_stage1"]
    assert (stage["gpu"], stage["ranks"]) == (4, 4) and profile["set-resources"]["cache_latents"]["gpu"] == 1


def test_what_cannot_be_is_said_and_nothing_is_left(parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no videos or images"):
        (parent / "none").mkdir()
        init_project(parent / "mine", [parent / "none"], checkout=parent / "video-vae")
    with pytest.raises(UserError, match="holds something already"):
        init_project(parent / "clips", [parent / "clips"], checkout=parent / "video-vae")
    with pytest.raises(UserError, match="not a checkout of video-vae"):
        init_project(parent / "mine", [parent / "clips"], checkout=parent)
    assert main(["init", str(parent / "mine"), "--videos", str(parent / "lost")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (parent / "mine").exists()


def test_run_says_where_the_checkout_is_missed(parent: Path) -> None:
    init_project(parent / "mine", [parent / "clips"], checkout=parent / "video-vae")
    (parent / "video-vae").rename(parent / "elsewhere")
    result = _run(parent / "mine", "-n")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "run: no checkout of video-vae in ../video-vae; name it in this script or by VIDEO_VAE=" in result.stderr
