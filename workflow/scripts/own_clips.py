"""Write what `make demo CLIPS=/folder [RUN=name]` changes in the demo's config, as JSON; nothing without either.

The demo's experiments are left out: their folders are the demo's, and one run is what clips of your own need first.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from video_vae.config import load_config
from video_vae.init_project import held_out, located

DEMO = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"


def overrides(clips: str, run: str) -> dict[str, Any]:
    """Return the settings of a run on some clips; the run is named after them unless it has a name."""
    alone = {"experiments": dict.fromkeys(load_config(DEMO).experiments)}
    if not clips:
        return {"experiment": run, **alone} if run else {}
    source = located(Path(clips).expanduser())
    if not source.exists():
        sys.exit(f"make demo: CLIPS={clips} does not exist; give a folder, a file, or a CSV with a path column")
    name = run or "clips_" + re.sub(r"[^A-Za-z0-9_-]+", "_", source.stem)[:48]
    question = f"How well does a small 4x8x8 video VAE, trained for minutes, reconstruct clips of {source.name}?"
    return {
        "experiment": name,
        **alone,
        # the demo's table says what is held out, a folder does not, and it may hold no photographs to move over
        "data": {"sources": [str(source)], "packages": [], "split": held_out([source]), "pans": {"clips": 0}},
        "report": {"title": f"Video VAE: {source.name}", "question": question},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(overrides(os.environ.get("CLIPS", ""), os.environ.get("RUN", "")), indent=1) + "\n")
