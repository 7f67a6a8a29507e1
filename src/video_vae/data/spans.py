"""Understand which part of a file a row of a list names: by frames, by seconds, or as a list of spans."""

from __future__ import annotations

import ast
import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MAX_NUMBER = 1e9
"""Frames or seconds beyond are no place in a file."""
_TIME_CODE = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")
_ISO = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", re.IGNORECASE)
_PAIR = re.compile(r"^\s*([0-9:.,]*[0-9])\s*(?:-->|->|-|–|;|\||~|to|\s)\s*([0-9:.,]*[0-9])\s*$")
_FIRST = ("start", "begin", "from", "start_time", "start_timestamp", "start_sec")
_LAST = ("end", "stop", "to", "end_time", "end_timestamp", "end_sec")


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of a file, in frames or in seconds from its first frame; the end is not part of it, None is the file's."""

    start: float = 0.0
    end: float | None = None
    in_frames: bool = False


def as_text(value: Any) -> str:
    """Return a cell as text without blanks around it; empty where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def parse_frames(text: str, column: str) -> int | None:
    """Parse a number of frames; None where the cell is empty.

    Raises:
        ValueError: if it is none.
    """
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < MAX_NUMBER or number != int(number):
        raise ValueError(f"{column} is {text!r}, not a number of frames")
    return int(number)


def parse_seconds(value: Any, column: str) -> float | None:
    """Parse a time in seconds, a time code (`1:02:03.456`) or an ISO duration; None where the cell is empty.

    Raises:
        ValueError: if it is none.
    """
    found = _seconds(value)
    if found is None or 0 <= found < MAX_NUMBER:
        return found
    raise ValueError(f"{column} is {as_text(value)!r}, not a time in seconds or as hours:minutes:seconds")


def _seconds(value: Any) -> float | None:
    """Return seconds, None for an empty cell, -1 for what is no time."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    text = as_text(value)
    if not text:
        return None
    code = _TIME_CODE.fullmatch(text)
    if code:
        return int(code[1] or 0) * 3600 + int(code[2]) * 60 + float(code[3].replace(",", "."))
    iso = _ISO.fullmatch(text)
    if iso and any(iso.groups()):
        return int(iso[1] or 0) * 3600 + int(iso[2] or 0) * 60 + float(iso[3] or 0)
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        return -1.0


def parse_spans(value: Any, column: str, *, in_frames: bool) -> list[Span]:
    """Parse one pair or a list of pairs, as values or as the text of them; empty where the cell is.

    Raises:
        ValueError: if it is something else, or a pair ends before it starts.
    """
    found = nested(value)
    if found is None:
        return []
    with suppress(TypeError, KeyError):
        spans = [_span(first, last, column, in_frames=in_frames) for first, last in _pairs(found)]
        if spans:
            return spans
    raise ValueError(f"{column} is {as_text(value)[:80]!r}, not a list of [start, end]")


def nested(value: Any) -> Any:
    """Return lists of a cell as lists; None where it is empty."""
    if hasattr(value, "tolist"):  # an array of parquet
        return value.tolist()
    if not isinstance(value, str):
        return None if as_text(value) == "" else value
    text = value.strip()
    if not text:
        return None
    pair = _PAIR.match(text)
    if pair:
        return [pair[1], pair[2]]
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


def _pairs(found: Any) -> Iterator[tuple[Any, Any]]:
    """Yield first and last of each pair, however deep they lie; raise TypeError or KeyError where there is none."""
    if isinstance(found, Mapping):
        yield from _pairs_of_object(found)
    elif not _is_list(found):
        raise TypeError
    elif len(found) == 2 and not any(isinstance(item, Mapping) or _is_list(item) for item in found):
        yield found[0], found[1]
    else:
        for item in found:
            yield from _pairs(item)


def _pairs_of_object(item: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for name in ("span", "timestamp", "segment"):
        if name in item:
            yield from _pairs(nested(item[name]))
            return
    first = next((name for name in _FIRST if name in item), None)
    last = next((name for name in _LAST if name in item), None)
    if first is None or last is None:
        raise KeyError
    yield item[first], item[last]


def _is_list(item: Any) -> bool:
    return isinstance(item, list | tuple) or hasattr(item, "tolist")


def _span(first: Any, last: Any, column: str, *, in_frames: bool) -> Span:
    start: float | None
    end: float | None
    if in_frames:
        start, end = parse_frames(as_text(first), column), parse_frames(as_text(last), column)
    else:
        start, end = parse_seconds(first, column), parse_seconds(last, column)
    return checked(start, end, column, in_frames=in_frames)


def checked(start: float | None, end: float | None, column: str, *, in_frames: bool) -> Span:
    """Make a span of its ends.

    Raises:
        ValueError: if it ends before it starts.
    """
    if end is not None and end <= (start or 0):
        raise ValueError(f"{column} ends at {end:g}, not after its start, {start or 0:g}")
    return Span(start=start or 0.0, end=end, in_frames=in_frames)
