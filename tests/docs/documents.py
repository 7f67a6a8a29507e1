"""Read the code blocks of the documents and how each is to be tested; run as a program, name those that do not say.

A block's test stands in a comment on the line before it, `<!-- test: KIND -->` or `<!-- test: KIND WORDS -->`.
CONTRIBUTING.md lists the kinds. Needs the standard library only.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("*.md", "docs/*.md", "config/*.md", "envs/*.md", "benchmarks/*.md", "workflow/**/*.md")
COMMANDS = ("sh", "python")
TEXTS = ("text", "csv", "json", "math", "yaml")
"""Languages that hold no commands; yaml may be tested all the same."""
KINDS: dict[str, tuple[str, ...]] = {
    "run": COMMANDS,
    "slow": COMMANDS,
    "fails": ("sh",),
    "dry-run": ("sh",),
    "parse": ("sh",),
    "make": ("sh",),
    "syntax": COMMANDS,
    "config": ("yaml",),
    "file": (*TEXTS, *COMMANDS),
}
"""What can be done with a block, and the languages that it suits."""
NEEDS_WORDS = {"syntax": "the reason why it cannot be run", "file": "the file's name"}

_MARK = re.compile(r"<!-- test: (?P<kind>[a-z-]+)(?:,? (?P<words>[^ ].*?))? -->")
_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+)(?P<language>\w*)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code."""

    document: str
    """Path of the document, from the root of the checkout."""
    line: int
    """Line of its opening fence, from 1."""
    language: str
    text: str
    kind: str = ""
    """How it is tested; empty where nothing is said."""
    words: str = ""
    """What stands behind the kind: a reason, or a file's name."""
    answer: str = ""
    """The text block that follows it directly: what it prints."""

    @property
    def place(self) -> str:
        """Say where it stands."""
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Split it into commands: one a line (a backslash joins two), without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def documents() -> list[Path]:
    """List the documents of the project."""
    return sorted(path for place in PLACES for path in ROOT.glob(place))


def read_blocks(document: Path) -> list[Block]:
    """Read the fenced blocks of a document, in their order."""
    blocks: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opened = _FENCE.fullmatch(lines[number])
        if opened is None:
            number += 1
            continue
        closing = f"{opened['indent']}{opened['ticks']}"
        end = next((place for place in range(number + 1, len(lines)) if lines[place] == closing), len(lines))
        mark = _MARK.fullmatch(lines[number - 1].strip()) if number else None
        body = "".join(f"{line.removeprefix(opened['indent'])}\n" for line in lines[number + 1 : end])
        if opened["language"] == "text" and mark is None and blocks and _follows(blocks[-1], lines, number):
            blocks[-1] = Block(**{**vars(blocks[-1]), "answer": body})
        kind, words = (mark["kind"], mark["words"] or "") if mark else ("", "")
        name = document.relative_to(ROOT).as_posix() if document.is_relative_to(ROOT) else document.name
        blocks.append(
            Block(document=name, line=number + 1, language=opened["language"], text=body, kind=kind, words=words)
        )
        number = end + 1
    return blocks


def _follows(block: Block, lines: list[str], number: int) -> bool:
    """Tell whether only empty lines lie between a block of commands and a line."""
    start = block.line + block.text.count("\n") + 1
    return block.language in COMMANDS and not any(line.strip() for line in lines[start:number])


def prose(document: Path) -> str:
    """Read a document without its fenced blocks."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def faults(document: Path) -> Iterator[str]:
    """Yield what keeps a document's commands from being tested."""
    name = document.relative_to(ROOT) if document.is_relative_to(ROOT) else document
    for block in read_blocks(document):
        kinds = [kind for kind, languages in KINDS.items() if block.language in languages]
        if block.language not in (*COMMANDS, *TEXTS):
            yield f"{block.place}: a block of {block.language or 'nothing'}; take {', '.join((*COMMANDS, *TEXTS))}"
        elif block.kind and block.kind not in kinds:
            yield f"{block.place}: `{block.kind}` does not suit {block.language}; take {', '.join(kinds)}"
        elif not block.kind and block.language in COMMANDS:
            yield f"{block.place}: put <!-- test: KIND --> before the block; kinds: {', '.join(kinds)}"
        elif block.kind in NEEDS_WORDS and not block.words:
            yield f"{block.place}: <!-- test: {block.kind}, ... --> lacks {NEEDS_WORDS[block.kind]}"
    inside, before = False, ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence, mark = _FENCE.match(line), before.strip()
        if not inside and line.startswith("    ") and not mark:
            yield f"{name}:{number}: an indented block is not tested; fence it with ```sh or ```text"
        if not inside and mark.startswith("<!-- test:") and not (fence and _MARK.fullmatch(mark)):
            yield f"{name}:{number - 1}: this mark is not <!-- test: KIND --> on the line before a block"
        inside ^= bool(fence)
        before = line
    if inside:
        yield f"{name}: the last block is not closed"


if __name__ == "__main__":
    found = [fault for document in documents() for fault in faults(document)]
    sys.exit("\n".join(found) + "\nCONTRIBUTING.md explains the kinds." if found else 0)
