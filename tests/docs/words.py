"""Name words that the field does not use, in code, documents, config and messages; run as a program by `make lint`.

Needs the standard library only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = (
    *("*.md", "docs/*.md", "config/*", "envs/*.md", "benchmarks/*.md", "benchmarks/*.py"),
    *("src/**/*.py", "src/**/*.html", "workflow/Snakefile", "workflow/rules/*.smk", "workflow/profiles/**/*.yaml"),
    *("workflow/report/*.rst", "workflow/scripts/*.py", "workflow/weights/**/*.md", "workflow/notebooks/*.ipynb"),
)
_COUNTED = (
    r"bytes|[KMGT]i?B|[TGM]?FLOPs?|[Cc]lips?|[Ff]rames?|[Ss]econds?|milliseconds?|ms|[Ss]teps?|values?|rows?|lines?|jobs?|"
    r"windows?|numbers?|bits|images?|scores?|pairs?|ranks?|threads?|times|files?|[Bb]locks?|minutes|[Pp]rocesses|cores|"
    r"tasks?|points?|passes|bit/s|entry|entries|deviations?|[Cc]rops|GPUs|cells|digits|tokens|latents|samples?|tables?|"
    r"objects?|checks?|tensors?|scales?|pixels|differences?|"
    r"\d[\d.,]*|one|two|three|once|twice"
)
_UNIT = (
    r"frames?|clip|second|step|GPU|rank|node|video|run|row|file|minute|pass|level|batch|job|stage|side|window|channel|day|"
    r"optimizer step|forward pass|checkpoint|token|element|pixel|hour|machine|image|item|layer|seed|user|worker|core|"
    r"process|experiment|metric|epoch|variant|source|line|section|shard|visible GPU|pair"
)
_SENTENCE = (
    r"(?! (?:has|have|is|are|of a list|that|takes|holds|reads|shares?|may|can|cannot|later|lasts?|needs?|before)\b)"
)
WORDS: dict[str, str] = {
    rf"\b(?:{_COUNTED}) an? (?:{_UNIT})\b{_SENTENCE}": "say `per`: 16 KiB per frame",
    r"not told apart|told apart by": "say `no significant difference`",
    r"slip of the pen|mistyp\w+": "say `typo`",
    r"\bfor ever\b": "say `forever`",
    r"[Pp]atience\b": "say `timeout`",
    r"\bblown[ -]up\b": "say `inflated`",
    r"\banew\b": "say `again`",
    r"\b(?:mend|mends|mended|mending)\b": "say `fix`",
    r"\bwithout a word\b": "say `silently`",
    r"\bpassed over\b": "say `skipped`",
    r"\bmother process|\bfather process": "say `parent process`",
}
"""What not to write, as a pattern, and what to write."""
_EXCEPT = re.compile(r"VIDEO_VAE_PATIENCE|tests/docs/words")


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield line, from 1, and advice for each word of a text that is not the field's."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, advice in WORDS.items():
            found = re.search(pattern, _EXCEPT.sub("", line))
            if found:
                yield number, f"{found[0]!r}: {advice}"


def all_faults() -> Iterator[str]:
    """Yield a line for each fault of the project."""
    for path in sorted({path for place in PLACES for path in ROOT.glob(place) if path.is_file()}):
        for number, advice in faults(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}:{number}: {advice}"


if __name__ == "__main__":
    found = list(all_faults())
    sys.exit("\n".join(found) if found else 0)
