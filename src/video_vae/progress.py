"""Show progress: a live bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any, TextIO

from tqdm import tqdm

PLAIN_SECONDS, LONGEST_SECONDS = 10.0, 300.0
"""Time between lines where the output is not a terminal: first, and at most."""
BRIEF_SECONDS = 2.0
"""What takes no longer than this is not shown, where it is `brief`."""
AT_ONCE = 1e-9
"""A delay that is over at once, but leaves out the line with nothing done."""


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
    """Lines that come more seldom the longer it takes: the log of a day is read, and shown whole where a job fails.

    There is none with nothing done, and one at the end.
    """

    brief = False

    def display(self, *arguments: Any, **options: Any) -> Any:
        """Write a line, and wait longer before the next."""
        self.mininterval = min(LONGEST_SECONDS, max(PLAIN_SECONDS, self.format_dict["elapsed"] / 20))
        return super().display(*arguments, **options)

    def close(self) -> None:
        """Write how it ended, except where that is of no interest."""
        if not self.disable and not self.brief:
            self.delay = 0.0  # which tells tqdm that there is something to show
        super().close()


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str = "it",
    initial: int = 0,
    brief: bool = False,
) -> tqdm[Any]:
    """Wrap an iterable, or count calls of `.update()`; writes to stderr, `.close()` it or use it as a context.

    `.set_postfix(loss=...)` adds figures behind the bar, `initial` is the count to start from (after a resume). What is
    `brief` as a rule is shown only where it takes longer than two seconds (ten in a log file), and not when it is over.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    common: dict[str, Any] = {"total": total, "desc": desc, "unit": unit, "initial": initial}
    if sys.stderr.isatty():
        delay = BRIEF_SECONDS if brief else 0.0
        return tqdm(iterable, **common, dynamic_ncols=True, smoothing=0.1, delay=delay, leave=not brief)
    counted = "{n_fmt} {unit}, {elapsed} gone"
    if total:
        counted = "{n_fmt}/{total_fmt} {unit} ({percentage:.0f} %), {elapsed} gone, {remaining} left"
    bar = _Plain(
        iterable,
        **common,
        file=_Lines(sys.stderr),
        mininterval=PLAIN_SECONDS,
        miniters=1,
        delay=PLAIN_SECONDS if brief else AT_ONCE,
        bar_format="{desc}: " + counted + ", {rate_fmt}{postfix}",
    )
    bar.brief = brief
    return bar
