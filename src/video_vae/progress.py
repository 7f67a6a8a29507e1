"""Show progress: a live bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
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
        self.last = ""

    def write(self, text: str) -> int:
        """Take text."""
        line = text.strip()
        if line and line != self.last:  # the last one is shown again when the bar is closed
            self.stream.write(f"{line}\n")
            self.last = line
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class Progress(tqdm):
    """A bar whose estimate is of the work that is left: loading and warm-up are left out.

    What an earlier run did is left out by `skip`. The last line has the mean speed, loading included.
    """

    _time: Callable[[], float]
    _first: tuple[float, float] | None = None
    """Time and count after the first piece of work."""

    def __iter__(self) -> Iterator[Any]:
        """Count the items as they are done."""
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float | None = 1) -> bool | None:
        """Count what was done."""
        if self.disable or self._first is not None:
            return super().update(n)
        self.n += 0 if n is None else n
        now = self._time()
        self._first = now, self.n
        shown = now - self.last_print_t >= self.mininterval and now >= self.start_t + (self.delay or 0)
        self.last_print_t, self.last_print_n = now, int(self.n)  # from here on is counted how fast it is
        if shown:
            self.refresh()
        return shown

    def skip(self, n: int) -> None:
        """Count what need not be done."""
        self.n += n
        self.initial += n
        if not self.disable:
            self.last_print_n += n
        if self._first is not None:
            self._first = self._first[0], self._first[1] + n

    @property
    def format_dict(self) -> Any:
        """Return what a line is made of: tqdm's own values, and the pace."""
        values = dict(super().format_dict)
        done = self.total is not None and self.n >= self.total
        rate = self._speed(values["rate"], (self.n - self.initial) / max(1e-9, values["elapsed"]), done)
        values["pace"] = f", {pace(rate, self.unit)}" if rate else ""
        values["rate"] = rate or (1.0 if done else 0)  # tqdm writes "?" for what is left at a rate of 0
        return values

    def _speed(self, recent: float | None, mean: float, done: bool) -> float:
        """Return the units per second to tell, from tqdm's recent speed and the mean; 0 where it is not known yet."""
        if done:
            return mean
        if self._first is None or self.n <= self._first[1]:
            return 0.0
        later = self.n - self._first[1]
        rate = recent or later / max(1e-9, self._time() - self._first[0])
        # a few units after a large piece say little of how fast it is, but not slower than with the loading
        return max(rate, mean) if later < self._first[1] - self.initial else rate


def pace(rate: float, unit: str) -> str:
    """Write a speed in units (a plural) per second with a number of 1 and more: 12.3 frames/s, 5.33 s per frame."""
    if rate < 1:
        return f"{1 / rate:.3g} s per {unit.removesuffix('s')}"
    return f"{rate:.3g} {unit}/s" if rate < 100 else f"{rate:,.0f} {unit}/s"


class _Plain(Progress):
    """Lines that come more seldom the longer it takes: the log of a day is read, and shown whole where a job fails.

    There is none with nothing done, and one at the end.
    """

    brief = False

    def display(self, *arguments: Any, **options: Any) -> Any:
        """Write a line, and wait longer before the next."""
        self.mininterval = min(LONGEST_SECONDS, max(PLAIN_SECONDS, self.format_dict["elapsed"] / 20))
        return super().display(*arguments, **options)

    def close(self) -> None:
        """Write the last line, except where the bar is brief."""
        if not self.disable and not self.brief:
            self.delay = 0.0  # which tells tqdm that there is something to show
        super().close()


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str = "steps",
    initial: int = 0,
    brief: bool = False,
) -> Progress:
    """Wrap an iterable, or count calls of `.update()`; writes to stderr, `.close()` it or use it as a context.

    `unit` is a plural. `.set_postfix(loss=...)` adds figures behind the bar, `initial` is the count to start from after
    a resume. What is `brief` as a rule is shown only where it takes longer than two seconds (ten in a log file), and
    not when it is over.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    common: dict[str, Any] = {"total": total, "desc": desc, "unit": unit, "initial": initial}
    counted = "{n_fmt} {unit}, {elapsed} gone{pace}{postfix}"
    if total:
        counted = "{n_fmt}/{total_fmt} {unit} ({percentage:.0f} %), {elapsed} gone, {remaining} left{pace}{postfix}"
    if sys.stderr.isatty():
        delay = BRIEF_SECONDS if brief else 0.0
        form = "{desc}: {bar}| " + counted if total else "{desc}: " + counted
        return Progress(
            iterable, **common, dynamic_ncols=True, smoothing=0.1, delay=delay, leave=not brief, bar_format=form
        )
    bar = _Plain(
        iterable,
        **common,
        file=_Lines(sys.stderr),
        mininterval=PLAIN_SECONDS,
        miniters=1,
        delay=PLAIN_SECONDS if brief else AT_ONCE,
        bar_format="{desc}: " + counted,
    )
    bar.brief = brief
    return bar
