"""What any file refers to exists, in comments too: files, rules, modules, commands, releases of other projects."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from documents import ROOT
from video_vae import cli

TOP = r"(?:src|tests|workflow|config|envs|benchmarks|docs|\.github)"
ENDING = r"(?:md|py|smk|ya?ml|csv|sh|ipynb|rst|def|txt|html|jpg|svg|png|json|safetensors)"
SOURCES = ROOT / "src"
MEANT = {  # files that need not be there: made by a reader, by a test, or wrong on purpose
    ("envs/README.md", "envs/fetch.linux-64.pin.txt"),
    ("tests/environments/pythons.py", "src/sitecustomize.py"),
    ("tests/unit/test_cli.py", "config/docs.py"),
    ("tests/workflow/test_missing_inputs.py", "config/demo_clip.csv"),
    ("tests/docs/test_references.py", "tea"),
    ("envs/link.py", "video_vae.pth"),
}
MODULES = {
    ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCES.rglob("*.py")
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _module(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in MODULES for length in range(max(2, len(parts) - 2), len(parts) + 1))


Exists = Callable[[str, Path], bool]
KINDS: dict[str, tuple[str, Exists]] = {
    "file": (
        rf"(?<![\w./~<>{{}}$-])((?:\.\./)*{TOP}/[\w./-]*\w\.{ENDING})(?![\w*{{<])",
        lambda name, file: (ROOT / name).exists() or (file.parent / name).exists(),
    ),
    "rules": (r"\b(\w+\.smk)\b", lambda name, _: (ROOT / "workflow/rules" / name).is_file()),
    "profile": (r"\bprofiles/(\w+)", lambda name, _: (ROOT / "workflow/profiles" / name).is_dir()),
    "target of make": (r"`make ([a-z-]+)", lambda name, _: name in TARGETS),
    "command": (r"`video-vae ([a-z][a-z-]*)", lambda name, _: name in cli.COMMANDS),
    "module": (r"\b(video_vae(?:\.[a-z]\w*)+)", lambda name, _: _module(name)),
    # what stands on somebody's main branch may be gone tomorrow
    "release": (
        r"https://git(?:hub|lab)\.com/[\w.-]+/[\w.-]+/(?:blob|tree|raw)/([\w.-]+)",
        lambda name, _: name not in ("main", "master", "develop", "dev", "HEAD"),
    ),
}
"""What a reference looks like, and how to see whether it leads anywhere."""


def dangling(text: str, file: Path) -> Iterator[str]:
    """Yield what a file refers to and what does not exist, with its line."""
    place = file.relative_to(ROOT).as_posix()
    for kind, (pattern, exists) in KINDS.items():
        for match in re.finditer(pattern, text):
            if not exists(match[1], file) and (place, match[1]) not in MEANT:
                yield f"{place}:{text.count(chr(10), 0, match.start()) + 1}: no {kind} {match[1]}"


def _texts() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in sorted(listed.split("\0")):
        # what was once is history's to tell; the lock names nothing of this project
        if not (ROOT / name).is_file() or name in (
            "CHANGELOG.md",
            "requirements.lock",
            "tests/docs/" + Path(__file__).name,
        ):
            continue
        try:
            yield ROOT / name, (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_nothing_refers_to_what_is_not_there() -> None:
    texts = list(_texts())
    assert len(texts) > 250
    assert [line for file, text in texts for line in dangling(text, file)] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# docs/executors.md says what to install", "file"),
        ("see [this](../docs/executors.md)", "file"),
        ("`include: rules/queue.smk`", "rules"),
        ("--profile workflow/profiles/lsf", "profile"),
        ("`make coffee` makes it", "target of make"),
        ("run `video-vae embed CLIPS`", "command"),
        ("python -m video_vae.trainer.nothing CONFIG", "module"),
        ("https://github.com/a/b/blob/main/docs/c.md", "release"),
    ],
)
def test_each_kind_of_dangling_reference_is_found(text: str, kind: str) -> None:
    found = list(dangling(f"first line\n{text}\n", ROOT / "workflow" / "Snakefile"))
    assert len(found) == 1 and found[0].startswith(f"workflow/Snakefile:2: no {kind} ")
