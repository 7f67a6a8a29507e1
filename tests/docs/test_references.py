"""What the documents refer to exists: files, headings, places in the code, settings, commands, targets of make."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from documents import ROOT, documents, prose
from video_vae import cli
from video_vae.config import Config
from video_vae.config.errors import known_keys
from video_vae.data.content import Reason
from video_vae.data.rows import TABLE_SUFFIXES
from video_vae.data.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

ALL = pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATHS = ("src/", "tests/", "workflow/", "config/", "envs/", "benchmarks/", "docs/")


def _links(document: Path) -> Iterator[tuple[str, str]]:
    for match in LINK.finditer(prose(document)):
        if "://" not in match["target"]:
            yield match["text"], match["target"]


def _anchors(document: Path) -> set[str]:
    """Name the headings as links do: small letters, words joined by dashes."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _defines(source: Path, name: str) -> bool:
    pattern = rf"^\s*(def|class) {name}\b|^{name}\b.*=|^\s+{name}: "
    return bool(re.search(pattern, source.read_text(encoding="utf-8"), re.MULTILINE))


@ALL
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for text, target in _links(document):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"[{text}]({target})"
        assert not anchor or anchor in _anchors(file), f"[{text}]({target}): no such heading"


@ALL
def test_names_that_link_to_the_code_are_defined_there(document: Path) -> None:
    for text, target in _links(document):
        name = CODE.fullmatch(text)
        if name and target.endswith(".py") and "/" not in name[1]:
            assert _defines((document.parent / target).resolve(), name[1].split(".")[-1]), f"[{text}]({target})"


@ALL
def test_files_that_are_named_exist(document: Path) -> None:
    for code in CODE.findall(prose(document)):
        if code.startswith(PATHS) and not re.search(r"[<>{}*,\s]|\.\.\.", code):
            assert (ROOT / code.split("::")[0]).exists(), code


def _is_setting(code: str, keys: set[str]) -> bool:
    """Tell whether a dotted name is a setting; `*` stands for any stage."""
    return any(re.fullmatch(re.escape(code).replace(r"\*", "stage1"), key) for key in keys)


@ALL
def test_settings_that_are_named_are_in_the_config(document: Path) -> None:
    keys = set(known_keys(Config))
    sections = {key.split(".")[0] for key in keys if "." in key} - {"resources"}
    for code in CODE.findall(prose(document)):
        name = code.split(":")[0]
        if re.fullmatch(r"[a-z_]+(\.[a-z_0-9*]+)+", name) and name.split(".")[0] in sections:
            if Path(name).suffix in (".csv", ".html", ".md", ".py", ".json", ".yaml", ".parquet"):
                continue
            assert _is_setting(name, keys), name


@ALL
def test_commands_and_targets_that_are_named_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for code in CODE.findall(prose(document)):
        words: list[Any] = code.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, code
        if words[0] == "video-vae" and len(words) > 1 and words[1].islower() and not words[1].startswith("-"):
            assert words[1] in cli.COMMANDS, code


def _texts() -> str:
    """Join all texts of the package, adjacent literals as one, with `...` in the place of what is filled in."""
    texts = [(ROOT / "envs" / "setup.sh").read_text(encoding="utf-8")]
    for source in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[sdg]", "...", node.value))
    return "\n".join(texts)


def _messages(document: Path) -> list[str]:
    """List the first cells of the tables under `message` that quote one."""
    tables = re.findall(r"^\| message \|.*\n\|[ -|]*\n((?:\|.*\n?)+)", prose(document), re.MULTILINE)
    cells = [row.split(" | ")[0].removeprefix("| ") for table in tables for row in table.splitlines()]
    return [cell[1:-1].replace("``", "`") for cell in cells if cell.startswith("`")]


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    messages, texts = _messages(ROOT / "docs" / "troubleshooting.md"), _texts()
    assert len(messages) > 40
    missing = []
    for message in messages:
        parts = [re.escape(part.strip()) for part in re.split(r"\.{3,}", message) if part.strip()]
        missing += [] if re.search(r"[^\n]*".join(parts), texts) else [message]
    assert not missing


def test_every_reason_for_rejecting_a_file_is_explained() -> None:
    rows = re.findall(r"^\| `([a-z ]+)` \|", prose(ROOT / "docs" / "own-clips.md"), re.MULTILINE)
    assert set(get_args(Reason)) <= set(rows)


def test_every_kind_of_file_that_is_read_is_listed() -> None:
    listed = set(re.findall(r"\.[a-z0-9]+", prose(ROOT / "docs" / "own-clips.md")))
    assert listed >= VIDEO_SUFFIXES | TABLE_SUFFIXES
    assert listed >= IMAGE_SUFFIXES


def test_a_wrong_reference_is_found(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text(
        "[a](nowhere.md) [`psnr`](pixel.py) `data.split.bye` `make tea`\n", encoding="utf-8"
    )
    (tmp_path / "pixel.py").write_text("def ssim() -> None: ...\n", encoding="utf-8")
    checks = (
        test_links_lead_to_files_and_headings,
        test_names_that_link_to_the_code_are_defined_there,
        test_settings_that_are_named_are_in_the_config,
        test_commands_and_targets_that_are_named_exist,
    )
    for check in checks:
        with pytest.raises(AssertionError):
            check(tmp_path / "broken.md")
