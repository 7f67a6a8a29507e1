"""Several ranks share the clips and give what one rank gives."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from material import TEMPORAL, make_clip, make_video_vae
from video_vae.cli import main
from video_vae.data.table import write_table

pytestmark = pytest.mark.distributed
CONFIG = {"data": {"resolution": [32, 32]}, "model": {"temporal": TEMPORAL}}


def arguments(folder: Path, name: str) -> list[str]:
    where = [f"--data-path={folder / 'test.csv'}", f"--ckpt-path={folder / 'model'}", f"--save-dir={folder / name}"]
    return [json.dumps(CONFIG), *where, "--device=cpu", "--no-previews"]


def test_two_ranks_split_the_clips_and_give_the_same_files(tmp_path: Path) -> None:
    make_video_vae(tmp_path)
    clips = [make_clip(tmp_path, name, 9 + len(name)) for name in ("a", "bb", "ccc")]
    gone = make_clip(tmp_path, "gone", 9)
    (tmp_path / "gone.mkv").unlink()
    write_table(tmp_path / "test.csv", [clips[0], gone, *clips[1:]])
    assert main(["reconstruct", *arguments(tmp_path, "one")]) == 0

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"]
    command = [*launcher, "-m", "video_vae.reconstruct", *arguments(tmp_path, "two"), "--strict"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert (
        done.returncode != 0 and "1 of 4 clips could not be reconstructed" in done.stderr
    )  # --strict, and one is gone

    index = [list(csv.reader((tmp_path / name / "index.csv").open())) for name in ("one", "two")]
    assert index[0] == index[1] and [row[0] for row in index[0][1:]] == ["a", "bb", "ccc"]
    assert (tmp_path / "two/failed.csv").read_text() == (tmp_path / "one/failed.csv").read_text()
    for variant in ("ori", "rec", "spatial"):
        for clip in clips:
            file = f"{clip.clip_id}.mkv"
            assert (tmp_path / f"one_{variant}" / file).read_bytes() == (
                tmp_path / f"two_{variant}" / file
            ).read_bytes()
    assert json.loads((tmp_path / "two/run.json").read_text())["world_size"] == 2
