"""Several ranks share the clips and write what one process writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from metrics_material import bikes, save_clip, write_lpips
from video_vae.cli import main_for

pytestmark = pytest.mark.distributed


def test_two_ranks_write_what_one_process_writes(tmp_path: Path) -> None:
    write_lpips(tmp_path)
    real, generated = bikes()
    for count, name in enumerate("abc", 3):
        save_clip(tmp_path / "x_ori" / f"{name}.mkv", real[:count])
        save_clip(tmp_path / "x_rec" / f"{name}.mkv", generated[:count])
    (tmp_path / "x_rec/b.mkv").write_bytes(b"broken")
    where = [f"--real_video_dir={tmp_path / 'x_ori'}", f"--generated_video_dir={tmp_path / 'x_rec'}"]
    options = [*where, f"--lpips={tmp_path}", "--device=cpu"]
    assert main_for("evaluate", [*options, f"--output_dir={tmp_path / 'one'}"]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "video_vae.evaluate", *options, f"--output_dir={tmp_path / 'two'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "b (rec) is not scored" in done.stderr and done.stdout.count("2 clips, 8 frames") == 1
    for name in ("frames.parquet", "clips.csv", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
