"""What no config names is removed, and nothing else: nothing of others, nothing in use, nothing that is in doubt."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from finished_run import RESULTS, finish_run, written
from video_vae.cli import main
from video_vae.config import load_config
from video_vae.config.slices import as_text, latents_fingerprint, prepared_fingerprint, stage_slice
from video_vae.data.kept import keep
from video_vae.provenance import run_record, write_json_atomic

OLD, OTHER = "0" * 16, "1" * 16
STATE = RESULTS / "state/stage1"
CACHE = Path("results/latents")
STEP = [f"step-000000003{rank}/state.{kind}" for rank in ("", ".rank-0001") for kind in ("json", "safetensors")]
LOG = ".snakemake/log/2026-01-01T000000.000000.snakemake.log"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the state that it was trained from and that of an earlier try, and two caches of latents."""
    folder = tmp_path_factory.mktemp("finished")
    finish_run(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("VIDEO_VAE_CONFIG_FILES", "demo.yaml")
        record = json.loads((RESULTS / "stage1/run.json").read_text(encoding="utf-8"))
        write_json_atomic(RESULTS / "stage1/run.json", record | {"fingerprint": OTHER})
        for name in (OLD, OTHER):
            for part in ("lock", "log.jsonl", *STEP):
                written(STATE / name / part, "{}")
        for name in (OLD, latents_fingerprint(load_config("demo.yaml"))):
            shard = CACHE / name / "shard_0.safetensors"
            shard.parent.mkdir(parents=True)
            save_file({"moments": np.zeros(8)}, shard)
            record = run_record("encode-latents", {}, outputs={"shard": shard})
            write_json_atomic(shard.with_suffix(".run.json"), record)
            keep(shard)
        written(Path("results/benchmarks/latents", OLD, "shard_0.tsv"), "s\th:m:s\tmax_rss\n1\t0:00:01\t5\n")
        written(Path("results/benchmarks/demo/train_stage1.tsv"), "s\th:m:s\tmax_rss\n1\t0:00:01\t5\n")
    return folder


@pytest.fixture(autouse=True)
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to change at will, as the working folder."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def clean(capsys: pytest.CaptureFixture[str], *arguments: str, minutes: str = "0") -> list[str]:
    capsys.readouterr()
    assert main(["clean", "--outdated", "--unused-for", minutes, *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def tree() -> set[str]:
    return {path.as_posix() for path in Path("results").rglob("*")}


def rename_run() -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("experiment: demo", "experiment: new"))


def test_states_and_caches_of_other_settings_go_and_those_of_the_config_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree()
    lines = clean(capsys, "--dry-run")
    assert tree() == before and lines[-1].endswith("MB would be freed")
    lines = clean(capsys)
    assert [line.split(":")[0] for line in lines[:-1]] == [f"removed {CACHE / OLD}", f"removed {STATE / OLD}"]
    gone = {path for path in before if OLD in path}
    assert tree() == before - gone and len(gone) == 15
    assert clean(capsys) == ["nothing is outdated"]


def test_what_a_job_that_was_cut_off_left_goes_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Latents of some clips and no shard, as Ctrl-C leaves them; scores of some clips of a run that is no more."""
    written(CACHE / ("2" * 16) / ".shard_0.parts" / f"clip.1_f000036.{OLD}", "numbers")
    written(CACHE / ("2" * 16) / ".shard_0.parts" / "notes.txt", "of others")
    written(RESULTS / "stage1/metrics/.kept_scores" / f"{OLD}.npz", "numbers")
    rename_run()
    clean(capsys)
    left = {path for path in tree() if "parts/" in path or "kept_scores" in path}
    assert left == {f"{CACHE.as_posix()}/{'2' * 16}/.shard_0.parts/notes.txt"}


def test_the_settings_that_the_workflow_wrote_for_the_jobs_of_a_run_go_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = as_text(stage_slice(load_config("demo.yaml"), "stage1"))
    mine = written(RESULTS / "settings/train_stage1.json", text.strip())  # the last line has no end
    edited = written(RESULTS / "settings/edited.json", text.replace("  ", " "))
    other = written(RESULTS / "settings/other.json", as_text({"mine": 1}))
    rename_run()
    clean(capsys)
    assert (mine.exists(), edited.exists(), other.exists()) == (False, True, True)


def test_prepared_clips_of_other_settings_go(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("min_size: 16", "min_size: 16\n  prepare: h264"))
    wanted = prepared_fingerprint(load_config("demo.yaml"))
    for name in (OLD, wanted):
        shard = Path("results/prepared", name, "shard_0.tar")
        shard.parent.mkdir(parents=True)
        shard.write_bytes(b"x" * 600)
        record = run_record("prepare-clips", {}, outputs={"shard": shard})
        write_json_atomic(shard.with_suffix(".run.json"), record)
        keep(shard)
    assert f"removed results/prepared/{OLD}: prepared clips of other settings, 0.0 MB" in clean(capsys)
    assert {path.name for path in Path("results/prepared").iterdir()} == {wanted}


def test_caches_of_all_sizes_that_a_config_trains_at_stay(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("demo.yaml")
    sizes = "min_size: 16\n  buckets: [{resolution: [64, 64]}, {resolution: [64, 96]}]"
    config.write_text(config.read_text(encoding="utf-8").replace("min_size: 16", sizes))
    (alone,) = {path.name for path in CACHE.iterdir()} - {OLD}
    wanted = [latents_fingerprint(load_config("demo.yaml"), size) for size in ((64, 64), (64, 96))]
    for name in wanted:
        shutil.copytree(CACHE / alone, CACHE / name)
    clean(capsys)
    assert {path.name for path in CACHE.iterdir()} == {*wanted}


def test_states_stay_where_the_config_is_not_trained_yet(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("steps: 3", "steps: 5"))
    clean(capsys)
    assert (STATE / OLD).is_dir() and (STATE / OTHER).is_dir() and not (CACHE / OLD).exists()


def test_a_cache_stays_while_the_one_that_takes_clips_from_it_is_to_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("demo.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("min_size: 16", "min_size: 17"))
    assert any("still to be made" in line for line in clean(capsys)) and (CACHE / OLD / "shard_0.run.json").is_file()


def test_what_any_of_several_configs_names_stays(capsys: pytest.CaptureFixture[str]) -> None:
    written(Path("two.yaml"), Path("demo.yaml").read_text(encoding="utf-8").replace("steps: 3", "steps: 5"))
    clean(capsys, "--configfile", "demo.yaml", "--configfile", "two.yaml")
    assert (STATE / OLD).is_dir()
    clean(capsys, "--configfile", "demo.yaml")
    assert not (STATE / OLD).exists() and (STATE / OTHER).is_dir()


def test_a_run_that_no_config_names_goes_but_for_what_others_wrote_or_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(RESULTS, "results/backup")
    backup = {path for path in tree() if path.startswith("results/backup")}
    rename_run()
    written(RESULTS / "stage1/notes.txt", "mine")
    with (RESULTS / "data/test.csv").open("a", encoding="utf-8") as stream:
        stream.write("mine")
    (RESULTS / "stage1/link.csv").symlink_to(Path("demo.yaml").resolve())
    written(Path("results/benchmarks/demo/mine.tsv"), "a\tb\n")
    lines = clean(capsys)
    left = {f"{RESULTS}/{name}" for name in ("stage1/notes.txt", "data/test.csv", "stage1/link.csv")}
    files = {path.as_posix() for path in RESULTS.rglob("*") if not path.is_dir()}
    assert files == left and all(any(name in line for line in lines) for name in left)
    assert Path("results/benchmarks/demo/mine.tsv").is_file() and Path("demo.yaml").is_file()
    assert not Path("results/benchmarks/demo/train_stage1.tsv").exists()
    assert {path for path in tree() if path.startswith("results/backup")} == backup
    assert Path("results/metrics.csv").is_file() and Path("clips/0.mp4").is_file()


@contextmanager
def process(code: str, *words: str) -> Iterator[None]:
    """Run Python code that says when it is ready, then waits."""
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None and started.stdin is not None
        started.stdout.readline()
        yield
        started.stdin.write("\n")


@pytest.mark.parametrize(
    "code",
    [
        "held = open('{}')",
        "import safetensors; held = safetensors.safe_open('{}', 'numpy')",
        "import fcntl; held = open('{}'); fcntl.flock(held, fcntl.LOCK_EX)",
    ],
)
def test_what_a_process_uses_stays(capsys: pytest.CaptureFixture[str], code: str) -> None:
    used = CACHE / OLD / "shard_0.safetensors"
    with process(code.format(used)):
        lines = clean(capsys)
        assert used.is_file() and lines[0].startswith(f"kept {CACHE / OLD}: ") and "process" in lines[0]
    clean(capsys)
    assert not used.exists()


def test_what_changed_in_the_last_minutes_stays(capsys: pytest.CaptureFixture[str]) -> None:
    lines = clean(capsys, minutes="10")
    assert (STATE / OLD).is_dir() and (CACHE / OLD).is_dir() and all("last 10 minutes" in line for line in lines[:2])
    for path in (CACHE / OLD).iterdir():
        os.utime(path, (1, 1))
    clean(capsys, minutes="10")
    assert (STATE / OLD).is_dir() and not (CACHE / OLD).exists()


def test_nothing_is_removed_while_a_workflow_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = "Job stats:\njob      count\n-----  -------\nall          1\ntotal        1\n\n"
    written(Path(LOG), f"  Host: {socket.gethostname()}\n{jobs}")
    before = tree()
    with process("", "snakemake"):
        assert main(["clean", "--outdated", "--unused-for", "0"]) == 2
        assert "a workflow runs in " in capsys.readouterr().err and tree() == before
        assert clean(capsys, "--dry-run")[0].startswith("would remove")
    clean(capsys)
    assert tree() < before


def test_nothing_is_removed_where_it_is_not_known_what_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = written(Path("results/hand/stage1/model/config.json"), "{}")
    write_json_atomic(hand.parents[1] / "run.json", run_record("train", {}, outputs={"model": hand.parent}))
    assert any("results/hand: run, but its records name no config" in line for line in clean(capsys))
    assert hand.is_file()
    Path("demo.yaml").rename("moved.yaml")
    before = tree()
    assert main(["clean", "--outdated"]) == 2
    assert "demo.yaml is missing" in capsys.readouterr().err and tree() == before
    clean(capsys, "--configfile", "moved.yaml")
    assert not hand.exists() and (RESULTS / "stage1/run.json").is_file()
