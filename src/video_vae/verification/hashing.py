"""Hash files once each, several at a time, and say which are not what a record says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from video_vae.data.content import MediaError
from video_vae.errors import UserError
from video_vae.progress import progress
from video_vae.records import Expected
from video_vae.verification.chain import Chain

SHOWN = 12
"""Digits of a hash in a message."""


def file_differences(chain: Chain, expected: Iterable[Expected], quick: bool, workers: int) -> tuple[list[str], int]:
    """Compare files with what records say of them; return a line for each that differs, and the number of files.

    What a job wrote is compared before what others read, so that a changed file is named with the job that wrote it.
    With `quick` a file of the recorded size and time of change is taken for unchanged and not read.

    Raises:
        UserError: if a file cannot be read.
    """
    by_place: dict[Path, list[Expected]] = {}
    for item in sorted(expected, key=lambda item: not item.wrote):
        by_place.setdefault(chain.at(item.path), []).append(item)
    places = [place for place, items in by_place.items() if not (quick and _untouched(place, items))]
    digests = dict(zip(places, _hashed(places, workers), strict=True))
    lines = [_difference(items, digests[place]) for place, items in by_place.items() if place in digests]
    return [line for line in lines if line], len(by_place)


def _untouched(place: Path, items: Sequence[Expected]) -> bool:
    try:
        status = place.stat()
    except OSError:
        return False
    return all((item.bytes, item.mtime_ns) == (status.st_size, status.st_mtime_ns) for item in items)


def _hashed(places: Sequence[Path], workers: int) -> Iterator[str | None]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from progress(pool.map(_digest, places), total=len(places), desc="verify", unit="files")


def _digest(place: Path) -> str | None:
    from video_vae.data.identity import content_sha256

    try:
        return content_sha256(place)
    except (FileNotFoundError, NotADirectoryError, MediaError):
        return None
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}); give this user permission to read it") from None


def _difference(items: Sequence[Expected], digest: str | None) -> str:
    for item in items:
        if digest is None:
            return f"{item.path}: is missing; {item.record} {'wrote' if item.wrote else 'read'} it"
        if not digest.startswith(item.sha256):
            what = f"has changed since {item.record} wrote it" if item.wrote else f"is not what {item.record} read"
            return f"{item.path}: {what} (sha256 {item.sha256[:SHOWN]} then, {digest[:SHOWN]} now)"
    return ""
