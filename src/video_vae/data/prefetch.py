"""Prefetch items in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

Item = TypeVar("Item")
_END = object()


def prefetched(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield items in order, at most `count` prefetched; an exception of the producer is raised here."""
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[Future[object]] = deque(pool.submit(next, source, _END) for _ in range(count))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, source, _END))
            yield cast(Item, item)
