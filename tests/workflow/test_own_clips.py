"""`make demo CLIPS=...`: what changes in the demo's config."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from video_vae.config import parse_config
from workflow.workflow_material import ROOT


def _changes(clips: Path | str, run: str = "") -> dict[str, Any]:
    environment = {**os.environ, "CLIPS": str(clips), "RUN": run}
    script = ROOT / "workflow" / "scripts" / "own_clips.py"
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    values: dict[str, Any] = json.loads(result.stdout)
    parse_config(values)
    return values


def test_a_folder_is_a_run_of_its_own_with_a_fifth_of_its_videos_held_out(tmp_path: Path) -> None:
    values = _changes(tmp_path, run="pets")
    assert (values["experiment"], values["data"]["sources"]) == ("pets", [str(tmp_path)])
    assert values["data"]["split"] == {"test_fraction": 0.2}
    assert values["data"]["pans"] == {"clips": 0}  # there may be no photographs among them


def test_a_single_video_is_split_into_pieces_since_no_other_could_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "one.mp4").touch()
    (tmp_path / "many.csv").touch()
    assert _changes(tmp_path / "one.mp4")["data"]["split"]["by"] == "segment"
    assert "by" not in _changes(tmp_path / "many.csv")["data"]["split"]


def test_without_clips_the_demo_stays_as_it_is() -> None:
    assert _changes("") == {}
