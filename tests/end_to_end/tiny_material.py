"""A workflow smaller than the demo: its settings and a checkout to run it in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGE: dict[str, Any] = {
    "steps": 2,
    "global_batch": 2,
    "learning_rate": 1e-3,
    "frames": [5, 9],
    "precision": "fp32",
    "validate_every": 2,
}
SETTINGS: dict[str, Any] = {
    "experiment": "tiny",
    "data": {
        "sources": ["clips"],
        "resolution": [32, 32],
        "min_size": 16,
        "min_frames": 9,
        "prepare": "h264",
        "prepare_shards": 2,
        "split": {"test_fraction": 0.3},
    },
    "spatial": {
        "pretrained": None,
        "training": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "steps": 5, "batch": 4, "crop": 32},
    },
    "model": {"temporal": {"base_channels": 16, "layers_per_block": 1, "norm_num_groups": 4, "init": "interpolate"}},
    "latents": {"shards": 2},
    "stages": {
        "stage1": {**STAGE},
        "stage2": {**STAGE},
        "stage3": {**STAGE, "frames": [1, 9], "perceptual_frames": 1, "ema_decay": 0.5},
    },
    "reconstruction": {"max_frames": 9},
    "evaluation": {"flow": "dis", "bootstrap": 20},
    "compare": {"sd": {"spatial": "workflow/weights/spatial_vae"}},
    "experiments": {"no_kl": {"stages": {"stage3": {"kl_weight": 0.0}}}},
}


def copy_project(folder: Path) -> None:
    """Copy what a run needs of this project into a folder."""
    for name in ("workflow", "config", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitattributes", ".git_archival.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "slurm").symlink_to("workflow/profiles/slurm")
