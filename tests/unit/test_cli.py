"""The command line: instant help, one-line errors with exit status 2, tracebacks only on request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from video_vae.cli import COMMANDS, main


def _cli(*arguments: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "video_vae", *arguments], capture_output=True, text=True, check=False, **kwargs
    )


def test_help_lists_every_command_without_importing_any() -> None:
    code = "import sys; from video_vae.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in out and command.help in out for name, command in COMMANDS.items())
    assert out.rstrip().endswith("False")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: video-vae {name}" in capsys.readouterr().out


def test_user_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    result = _cli("manifest", str(tmp_path / "missing.yaml"), "--output-dir", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "missing.yaml" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for arguments in (("--debug", "manifest"), ("manifest", "--debug")):
        result = _cli(*arguments, str(tmp_path / "missing.yaml"), "--output-dir", str(tmp_path))
        assert result.returncode == 1 and "Traceback" in result.stderr


@pytest.mark.parametrize("arguments", ["--help", "train --help"])
def test_closed_pipe_is_silent(arguments: str) -> None:
    # Buffered, as where nobody sets PYTHONUNBUFFERED: the pipe then breaks only when Python flushes at its exit.
    command = f"unset PYTHONUNBUFFERED; {sys.executable} -m video_vae {arguments} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""
