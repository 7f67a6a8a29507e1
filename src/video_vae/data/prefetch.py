"""Prefetch items in background threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()


def prefetched(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield items in order, at most `count` prefetched; an exception of the producer is raised here."""
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[Future[object]] = deque(pool.submit(next, source, _END) for _ in range(count))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, source, _END))
            yield cast(Item, item)


def mapped(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield a function's results in the order of the items, read ahead by threads; 0 uses none."""
    if not threads:
        yield from map(function, items)
        return
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(function, item) for item in islice(source, 2 * threads))
        while ahead:
            result = ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
