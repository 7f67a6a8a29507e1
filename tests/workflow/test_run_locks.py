"""`./run` after a killed run offers to remove its lock; those of the living and of other machines stay."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clips import write_video
from video_vae.distributed.owners import Owner, owners, record_owner, started, this_process
from video_vae.init_project import init_project
from workflow.workflow_material import Checkout, copy_checkout, jobs

TARGET = "results/mine/data/train.csv"
RECORDS = Path(".snakemake/video-vae/owners")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose manifest job waits until the file `go` is there."""
    parent = tmp_path_factory.mktemp("locks")
    (parent / "clips").mkdir()
    write_video(parent / "clips" / "one.mp4", frames=20)
    checkout = copy_checkout(parent / "video-vae").folder
    init_project(parent / "mine", [parent / "clips"], checkout=checkout)
    main = checkout / "src/video_vae/__main__.py"
    waits = (
        "import os, sys, time\n"
        "while not os.path.exists('go') and 'VIDEO_VAE_OWNER' in os.environ:\n"
        "    time.sleep(0.1)\n"
        "    os.path.exists('/proc/' + os.environ['VIDEO_VAE_OWNER']) or sys.exit(1)\n"
    )
    main.write_text(f"{waits}{main.read_text(encoding='utf-8')}", encoding="utf-8")
    return parent / "mine"


def _start(project: Path, *arguments: str) -> subprocess.Popen[bytes]:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["./run", TARGET, *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=project, env={**os.environ, "PATH": tools}, stdout=quiet, stderr=quiet)


def _run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["./run", *arguments],
        cwd=project,
        env={**os.environ, "PATH": tools},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _until_recorded(project: Path) -> None:
    end = time.monotonic() + 60
    while not any((project / RECORDS).glob("*.json")) and time.monotonic() < end:
        time.sleep(0.2)


@pytest.fixture
def running(made: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A project in which the workflow runs and waits."""
    (made / "go").unlink(missing_ok=True)
    shutil.rmtree(made / "results", ignore_errors=True)
    shutil.rmtree(made / ".snakemake", ignore_errors=True)
    process = _start(made)
    _until_recorded(made)
    yield made, process
    process.kill()
    process.wait()


def test_the_lock_of_a_living_run_stays_and_that_of_a_killed_one_is_offered(
    running: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    project, process = running
    locks = sorted((project / ".snakemake/locks").iterdir())
    beside = _run(project, TARGET)
    assert beside.returncode != 0 and f"run: the workflow runs here already, process {process.pid} on" in beside.stderr
    assert "LockException" in beside.stdout + beside.stderr and "--unlock, then" not in beside.stderr
    assert sorted((project / ".snakemake/locks").iterdir()) == locks and process.poll() is None

    process.send_signal(signal.SIGKILL)
    process.wait()
    after = _run(project, TARGET)
    said = (
        f"run: process {process.pid} on {this_process().host} was killed and left its lock; remove it by ./run --unlock"
    )
    assert after.returncode == 1 and after.stderr.startswith(said) and after.stderr.count("\n") == 1
    assert sorted((project / ".snakemake/locks").iterdir()) == locks
    assert _run(project, "-n", TARGET).returncode == 0 and sorted((project / ".snakemake/locks").iterdir()) == locks

    (project / "go").touch()
    assert _at_a_terminal(project, "n") == 1 and not (project / TARGET).exists()
    assert _at_a_terminal(project, "y") == 0 and (project / TARGET).is_file()


def _at_a_terminal(project: Path, answer: str) -> int:
    """Run the project at a terminal, where somebody answers."""
    ours, theirs = pty.openpty()
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["./run", TARGET], cwd=project, env={**os.environ, "PATH": tools}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    try:
        while os.read(ours, 4096):
            pass
    except OSError:  # all that was said is read, and the program has ended
        pass
    os.close(ours)
    return process.wait()


def test_only_what_is_certain_makes_a_process_dead(tmp_path: Path) -> None:
    here = this_process()
    gone = subprocess.Popen(["true"])
    lost = {**vars(here), "pid": gone.pid, "started": started(gone.pid) or "1"}
    gone.wait()
    assert here.alive() and not Owner(**lost).alive()
    assert Owner(**lost | {"host": "other"}).alive() and Owner(**lost | {"machine": "other"}).alive()
    assert Owner(**lost | {"namespace": "pid:[1]"}).alive()
    assert not Owner(**vars(here) | {"boot": "earlier"}).alive()
    assert not Owner(**vars(here) | {"started": "1"}).alive()  # its number came again


def test_a_lock_that_was_taken_later_is_nobodys(tmp_path: Path) -> None:
    lock = tmp_path / "0.input.lock"
    lock.touch()
    record_owner([lock], tmp_path / "owners")
    assert owners([lock], tmp_path / "owners") == {lock: this_process()}
    os.utime(lock, ns=(1, 1))
    assert owners([lock], tmp_path / "owners") == {lock: None}
    record_owner([], tmp_path / "owners")
    (tmp_path / "owners" / "half.json").write_text('{"owner": 3', encoding="utf-8")
    assert owners([lock], tmp_path / "owners") == {lock: None}


def test_a_dry_run_of_a_fresh_project_fits_a_screen(made: Path) -> None:
    short, long = _run(made, "-n"), _run(made, "-n", "-p")
    assert short.returncode == long.returncode == 0
    text = short.stdout + short.stderr
    assert text.count("\n") <= 30 and jobs(text)["train_stage1"] == 1
    assert "reason: " in long.stdout + long.stderr


def test_the_end_names_the_report_and_calls_a_command_of_the_users_choice(
    own_copy: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)  # make says it itself
    said = own_copy.folder / "said"
    run = ["--configfile", "config/demo.yaml", "--config", 'report={"title": "Other"}']
    assert own_copy.snakemake("-n", *run, VIDEO_VAE_NOTIFY='echo "$1,$2,$3" >> said').returncode == 0
    assert not said.exists()
    done = own_copy.snakemake(*run, VIDEO_VAE_NOTIFY='echo "$1,$2,$3" >> said')
    assert done.returncode == 0
    assert f"The report: {own_copy.folder / 'reports/report.html'}\n" in done.stdout + done.stderr
    assert said.read_text(encoding="utf-8") == "finished,config/demo.yaml,reports/report.html\n"
    main = own_copy.folder / "src/video_vae/__main__.py"
    main.write_text("raise SystemExit('broken')\n", encoding="utf-8")
    again = own_copy.snakemake(
        "-R", "make_report", *run, VIDEO_VAE_NOTIFY='echo "$1" >> said; echo no mail >&2; exit 3'
    )
    assert "The report:" not in again.stdout + again.stderr
    assert again.returncode == 1 and "VIDEO_VAE_NOTIFY ended with status 3: no mail" in again.stdout + again.stderr
    assert said.read_text(encoding="utf-8").splitlines()[1:] == ["failed"]
