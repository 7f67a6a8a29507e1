"""Tokens and passwords of the environment stay out of logs, records and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from material import make_clip, make_spatial
from report_material import CONFIG, build_report, make_results
from video_vae import provenance
from video_vae.data.table import write_table
from video_vae.redaction import hide_secrets

TOKENS = {
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwx",
    "HUGGING_FACE_HUB_TOKEN": "hf_zyxwvutsrqponmlkjihgfe",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "https_proxy": "http://me:proxypassword@proxy.example:3128",
}
SECRETS = (*list(TOKENS.values())[:4], "proxypassword")


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)


def _leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.usefixtures("tokens")
def test_secrets_are_replaced_and_other_text_stays() -> None:
    for secret in SECRETS:
        assert hide_secrets(f"got {secret}, again {secret}!") == "got ***, again ***!"
    assert hide_secrets("https://me:pw@host/a?b=c and file a@b.mp4") == "https://***@host/a?b=c and file a@b.mp4"
    assert hide_secrets("another token hf_ABCDEFGHIJKLMNOPQRST") == "another token ***"
    assert hide_secrets("results/demo/stage1 at 3e-4, hf_model") == "results/demo/stage1 at 3e-4, hf_model"


@pytest.mark.usefixtures("tokens")
def test_a_run_record_holds_no_secret_even_where_one_was_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", f"--flow_weights=https://{TOKENS['HF_TOKEN']}@host/x", *SECRETS])
    record = provenance.run_record("train", {"a": [{"b": SECRETS[2]}]}, failed={"clip": f"no, {SECRETS[4]}"})
    assert _leaks(json.dumps(record)) == []
    assert record["arguments"][0] == "--flow_weights=https://***@host/x"


@pytest.mark.usefixtures("tokens")
def test_a_real_run_writes_no_secret_anywhere(tmp_path: Path) -> None:
    make_spatial(tmp_path / "spatial")
    write_table(tmp_path / "train.csv", [make_clip(tmp_path, "one", 4)])
    config = {"data": {"resolution": [32, 32]}, "spatial": {"pretrained": None}}
    command = [sys.executable, "-m", "video_vae", "encode-latents", json.dumps(config), "--data-path", "train.csv"]
    command += ["--spatial", "spatial", "--output", "out/all.safetensors", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    broken = subprocess.run(
        [*command, "--data-path", f"no/{SECRETS[2]}.csv"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert broken.returncode != 0 and "***" in broken.stderr
    assert _leaks(done.stdout + done.stderr + broken.stderr) == []
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.name.endswith("run.json") for path in files)
    assert [path for path in files if _leaks(path.read_bytes().decode("latin-1"))] == []


@pytest.mark.usefixtures("tokens")
def test_a_report_shows_no_secret(tmp_path: Path) -> None:
    make_results(tmp_path / "results")
    title = {"report": {"title": f"With {SECRETS[0]}", "question": f"Or {SECRETS[2]}?"}}
    page = build_report(CONFIG | title, tmp_path / "results", tmp_path / "report.html")
    assert _leaks(page) == [] and "With ***" in page
