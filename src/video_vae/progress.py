"""Show progress: a live bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any, TextIO

from tqdm import tqdm

PLAIN_SECONDS, LONGEST_SECONDS = 10.0, 300.0
"""Time between lines where the output is not a terminal: first, and at most."""


class _Lines:
    """Stream that turns the redrawn bar into whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Take text."""
        line = text.strip()
        if line:
            self.stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Send on what was taken."""
        self.stream.flush()


class _Plain(tqdm):
    """Lines that come more seldom the longer it takes: the log of a day is read, and shown whole where a job fails."""

    def display(self, *arguments: Any, **options: Any) -> Any:
        """Write a line, and wait longer before the next."""
        self.mininterval = min(LONGEST_SECONDS, max(PLAIN_SECONDS, self.format_dict["elapsed"] / 20))
        return super().display(*arguments, **options)


def progress(
    iterable: Iterable[Any] | None = None, *, total: int | None = None, desc: str, unit: str = "it", initial: int = 0
) -> tqdm[Any]:
    """Wrap an iterable, or count calls of `.update()`; writes to stderr, `.close()` it or use it as a context.

    `.set_postfix(loss=...)` adds figures behind the bar, `initial` is the count to start from (after a resume).
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if sys.stderr.isatty():
        return tqdm(iterable, total=total, desc=desc, unit=unit, initial=initial, dynamic_ncols=True, smoothing=0.1)
    counted = "{n_fmt} {unit}, {elapsed} gone"
    if total:
        counted = "{n_fmt}/{total_fmt} {unit} ({percentage:.0f} %), {elapsed} gone, {remaining} left"
    return _Plain(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        file=_Lines(sys.stderr),
        mininterval=PLAIN_SECONDS,
        miniters=1,
        bar_format="{desc}: " + counted + ", {rate_fmt}{postfix}",
    )
