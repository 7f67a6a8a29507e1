"""The command line: instant help, one-line errors with exit status 2, tracebacks only on request."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from video_vae.cli import main
from video_vae.commands import COMMANDS, GROUPS, command_parser


def _cli(*arguments: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-m", "video_vae", *arguments], capture_output=True, text=True, check=False, **kwargs
    )


def test_help_lists_every_command_without_importing_any() -> None:
    code = "import sys; from video_vae.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in out and command.help in out for name, command in COMMANDS.items())
    assert all(f"\n{title}:\n" in out for title in GROUPS) and "examples:" in out
    assert out.rstrip().endswith("False")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: video-vae {name}" in out
    assert f"example:\n  video-vae {name} {COMMANDS[name].example}\n" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_default_is_shown_and_every_example_is_understood(name: str) -> None:
    parser = command_parser(importlib.import_module(COMMANDS[name].module), f"video-vae {name}", COMMANDS[name].example)
    parser.parse_args(COMMANDS[name].example.split())
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        assert action.help, action.dest
        values = action.default if isinstance(action.default, list) else [action.default]
        if action.option_strings and action.default not in (None, False, True, [], "==SUPPRESS=="):
            shown = " ".join(map(str, values))
            assert f"[{shown}]" in text or "[" in action.help, action.dest


HEAVY = ("torch", "diffusers", "pandas", "matplotlib", "av", "scipy", "cv2", "PIL", "nbclient", "snakemake")
"""Packages that take their time, and that no help needs."""
SHOWN = """
import contextlib, io, runpy, sys
from video_vae import cli, commands

def look(name):
    print(name, *(package for package in {heavy} if package in sys.modules))

look("cli")
for name in commands.COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        cli.main([name, "--help"])
    look(name)
for name in {modules}:
    sys.argv = [name, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_module(name, run_name="__main__")
    look(name)
"""
CALLED_BY_MODULE = [f"video_vae.{name}" for name in ("train", "reconstruct", "evaluate", "launch")]


def test_help_imports_nothing_heavy() -> None:
    code = SHOWN.format(heavy=HEAVY, modules=CALLED_BY_MODULE)
    shown = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split("\n") == ["cli", *COMMANDS, *CALLED_BY_MODULE, ""], shown.stderr


@pytest.mark.parametrize("module", ["video_vae", *CALLED_BY_MODULE])
def test_help_takes_less_than_a_second_of_processor_time(module: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    given = ["verify", "--help"] if module == "video_vae" else ["--help"]
    subprocess.run([sys.executable, "-m", module, *given], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_the_bare_command_shows_the_help_and_ends_as_wrong_usage() -> None:
    result = _cli()
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == _cli("--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_one_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.lower().count("example:") == 1


def test_wrong_arguments_are_one_line_that_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["evaluat"], "no command 'evaluat'; did you mean evaluate?; see `video-vae --help`"),
        (["train", "config/demo.yaml"], "required: --stage, --data-path, --output; see `video-vae train --help`"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1 and said in error


def test_the_module_of_a_subcommand_is_named_as_it() -> None:
    for name, command in COMMANDS.items():
        # the bare words `import` and `init` cannot name a module, or say too little: their object follows
        assert command.module.rpartition(".")[2].startswith(name.replace("-", "_")), command.module


def test_user_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    result = _cli("manifest", str(tmp_path / "missing.yaml"), "--output-dir", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "missing.yaml" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for arguments in (("--debug", "manifest"), ("manifest", "--debug")):
        result = _cli(*arguments, str(tmp_path / "missing.yaml"), "--output-dir", str(tmp_path))
        assert result.returncode == 1 and "Traceback" in result.stderr


def test_an_error_that_nobody_expected_is_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "README.md").write_bytes(b"\xff\xfe not text")
    command = [sys.executable, "-m", "video_vae.config.docs", "--root", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "video_vae.config.docs: UnicodeDecodeError: 'utf-8' codec can't decode" in result.stderr
    assert "(at config/docs.py:" in result.stderr and "run again with --debug" in result.stderr
    shown = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in shown.stderr


@pytest.mark.parametrize("arguments", ["--help", "train --help"])
def test_closed_pipe_is_silent(arguments: str) -> None:
    # Buffered, as where nobody sets PYTHONUNBUFFERED: the pipe then breaks only when Python flushes at its exit.
    command = f"unset PYTHONUNBUFFERED; {sys.executable} -m video_vae {arguments} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""
