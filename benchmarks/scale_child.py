"""One measurement in a process of its own, without torch: python -m benchmarks.scale_child WHAT PATH..."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from video_vae.cli import main
from video_vae.config import Split
from video_vae.data.open_table import read_table
from video_vae.data.sources import collect
from video_vae.data.split import assign_split
from video_vae.data.table import write_table


def listing(folder: str, output: str) -> dict[str, float]:
    """List a folder."""
    settings = json.dumps({"data": {"sources": [folder], "min_size": 16}})
    start = time.perf_counter()
    assert main(["manifest", settings, "--output-dir", output, "--workers", str(os.cpu_count())]) == 0
    return {"seconds": time.perf_counter() - start}


def read_source(table: str) -> dict[str, float]:
    """Read a table of sources."""
    start = time.process_time()
    found = collect([table])
    return {"seconds": time.process_time() - start, "rows": len(found.candidates)}


def read_and_split(table: str) -> dict[str, float]:
    """Read a manifest, hold clips out, write the parts."""
    start = time.process_time()
    clips = read_table(table)
    read = time.process_time()
    clips = assign_split(clips, Split(test_fraction=0.01), 0)
    split = time.process_time()
    for side in ("train", "test"):
        write_table(Path(table).parent / f"{side}.csv", (clip for clip in clips if clip.split == side))
    done = time.process_time()
    return {"seconds": read - start, "split": split - read, "write": done - split, "rows": len(clips)}


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "listing": listing,
    "read_source": read_source,
    "read_and_split": read_and_split,
}


if __name__ == "__main__":
    said = CHILDREN[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(f"\n{json.dumps(said)}\n")
