"""The first commands of the README lead from a fresh clone to a planned run of own clips, with an empty home."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from documents import ROOT, read_blocks
from material import write_clips

BLOCK = read_blocks(ROOT / "README.md")[0]


def test_the_first_block_is_the_whole_way() -> None:
    words = [" ".join(line) for line in BLOCK.commands]
    assert [line.split()[0] for line in words] == ["git", "cd", "make", "source", "video-vae", "cd", "./run", "./run"]
    pictures = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert BLOCK.line < min(number for number, line in enumerate(pictures) if line.startswith(("![", "<img")))


def test_documents_call_programs_in_one_way() -> None:
    for path in [ROOT / "README.md", ROOT / "config" / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"\.venv/bin/(?!activate)\S+", text), path
        # the launcher is no subcommand, and logs show modules
        named = re.findall(r"python -m video_vae[\w.]*\b(?! results/|[\w.])", text)
        assert set(named) <= {"python -m video_vae.launch"}, path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_works_in_a_fresh_clone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_clips(tmp_path / "clips", frames=48, height=72, width=96)
    *before, last = BLOCK.text.splitlines()
    assert last.split()[0] == "./run"  # the run itself is what `make demo` and the tests from end to end do
    script = "\n".join(before).replace("URL ", f"{ROOT} ").replace("/path/to/clips", str(tmp_path / "clips"))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG") or name.startswith("PIP_")}
    kept |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", "~/.cache")}
    kept["XDG_CACHE_HOME"] = str(Path(kept["XDG_CACHE_HOME"]).expanduser())  # what is downloaded is not asked for twice
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "train_stage3" in result.stdout + result.stderr
