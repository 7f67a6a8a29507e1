"""A project folder runs the workflow as it says, keeps what comes out, and goes on after a move with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clips import write_video
from video_vae.cli import main
from video_vae.config import load_config
from video_vae.errors import UserError
from video_vae.init_project import init_project
from workflow_material import Checkout, copy_checkout, jobs


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
    with pytest.raises(UserError, match="no checkout of video-vae"):
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
