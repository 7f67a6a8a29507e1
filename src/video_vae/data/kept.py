"""Keep what a shard held when it is made again: a second name beside it, and what earlier ones hold further away.

A workflow removes a file before it is made again; a hard link, which takes no space, keeps what it held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

KEPT = ".kept"
"""How the second name of a shard ends; it begins with a dot."""


def kept_name(output: Path) -> Path:
    """Return the second name of a shard."""
    return output.with_name(f".{output.name}{KEPT}")


def keep(output: Path) -> None:
    """Give a finished shard its second name; where the file system knows no links it has none."""
    name = kept_name(output)
    with suppress(OSError):
        name.unlink(missing_ok=True)
        os.link(output, name)


def earlier_shards(output: Path, folder: Path | None) -> Iterator[Path]:
    """Yield the files that may hold parts of a shard that is to be made, the nearest first.

    Args:
        output: the shard; itself and its second name are looked into.
        folder: where else shards may lie, one folder deep.
    """
    near = [output, kept_name(output)]
    further = [] if folder is None else sorted(folder.glob(f"*/*{output.suffix}*"))
    named = (file for file in further if not file.name.startswith(".") or file.name.endswith(KEPT))
    yield from (file for file in dict.fromkeys([*near, *named]) if file.is_file())
