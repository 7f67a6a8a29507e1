"""A run's record says what made it, and equal settings have equal fingerprints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from video_vae import provenance
from video_vae.config import Config


def test_fingerprint_depends_on_content_and_not_on_order() -> None:
    first = provenance.fingerprint({"a": 1, "b": (1.5, None)})
    assert first == provenance.fingerprint({"b": [1.5, None], "a": 1})
    assert first != provenance.fingerprint({"b": [1.5, None], "a": 2})
    assert len(first) == 16 and int(first, 16) >= 0


def test_fingerprint_refuses_what_has_no_single_text() -> None:
    with pytest.raises(ValueError, match="JSON"):
        provenance.fingerprint({"a": float("nan")})


def test_fingerprints_need_no_torch() -> None:
    code = "import sys, video_vae.provenance as p; p.run_record(p.fingerprint({}), {}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_folder_hash_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    before = provenance.sha256_path(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert provenance.sha256_path(tmp_path) != before
    (tmp_path / "b.txt").rename(tmp_path / "a.txt")
    assert provenance.sha256_path(tmp_path) == before


def test_run_record_is_json_and_names_inputs_and_code(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    table.write_text("path\n")
    record = provenance.run_record("train", Config(seed=7), {"data": table}, started=1.0, stage="stage1")
    provenance.write_json_atomic(tmp_path / "run.json", record)
    read = json.loads((tmp_path / "run.json").read_text())
    assert read["inputs"]["data"]["sha256"] == provenance.sha256_path(table)
    assert (read["seed"], read["stage"], read["start"]) == (7, "stage1", "1970-01-01T00:00:01+00:00")
    assert read["packages"]["torch"] and len(read["code"]["sources"]) == 16


def test_what_a_command_line_gave_is_recorded_however_long_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"data": {"sources": [f"{number:0100}" for number in range(3000)]}}
    for settings in ({"seed": 1}, given):
        assert provenance.config_variables([], settings, None)[provenance.CONFIG_FILES] == ""
        assert not list(tmp_path.iterdir())
        for name, value in provenance.config_variables(["a.yaml"], settings, tmp_path / "kept").items():
            monkeypatch.setenv(name, value)
        subprocess.run(["true"], check=True)  # the environment is not too long for a program to start
        assert provenance.run_record("train", {})["config_given"] == settings
        if settings is not given:
            assert not list(tmp_path.iterdir())
