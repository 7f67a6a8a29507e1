"""A small data set with its latent cache, and the command that trains on it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from material import TEMPORAL, make_clip, make_spatial
from video_vae import train
from video_vae.data.open_table import read_table
from video_vae.data.table import Clip, write_table
from video_vae.files import sha256_file
from video_vae.latents import encode_latents

BASE: dict[str, Any] = {
    "data": {"resolution": [32, 32]},
    "spatial": {"pretrained": None},
    "model": {"temporal": TEMPORAL, "scaling_factor": 0.5},
}
STAGE: dict[str, Any] = {
    "steps": 6,
    "epochs": None,
    "global_batch": 4,
    "micro_batch": 2,
    "frames": [5, 9],
    "image_share": 0.4,
    "identity_weight": 1.0,
    "perceptual_weight": 0.0,
    "learning_rate": 1e-3,
    "ema_decay": 0.9,
    "precision": "fp32",
    "validate_every": 3,
    "checkpoint_every": 2,
}
MODEL_FILE = "diffusion_pytorch_model.safetensors"


def settings(stage: str = "stage1", **changes: Any) -> str:
    """Return the config of one stage as JSON text."""
    return json.dumps({**BASE, "stages": {stage: {**STAGE, **changes}}})


def make_image(folder: Path, name: str) -> Clip:
    """Write an image file; return its row."""
    clip = make_clip(folder, name, 1, kind="image", fps=None, path=str(folder / f"{name}.png"))
    Image.effect_mandelbrot((56, 48), (-2, -1, 1, 1), 30).convert("RGB").save(clip.path)
    return clip


def make_data(folder: Path) -> None:
    """Write train.csv (three videos, one image), test.csv (two videos), a spatial VAE, and latents.safetensors."""
    make_spatial(folder / "spatial")
    train = [*(make_clip(folder, name, 9 + 4 * len(name)) for name in ("a", "bb", "ccc")), make_image(folder, "still")]
    held_out = [make_clip(folder, name, 12, split="test") for name in ("held1", "held2")]
    write_table(folder / "train.csv", train)
    write_table(folder / "test.csv", held_out)
    encode(folder)


def encode(folder: Path) -> None:
    """Write latents.safetensors again."""
    parser = argparse.ArgumentParser()
    encode_latents.add_arguments(parser)
    tables = ["--data-path", str(folder / "train.csv"), "--data-path", str(folder / "test.csv")]
    output = ["--spatial", str(folder / "spatial"), "--output", str(folder / "latents.safetensors")]
    encode_latents.run(parser.parse_args([settings(), *tables, *output]))


def hash_sources(folder: Path) -> None:
    """Name the clips of train.csv by their content, as a manifest does."""
    clips = [replace(clip, source_id=sha256_file(clip.path)[:16]) for clip in read_table(folder / "train.csv")]
    write_table(folder / "train.csv", clips)


def options(folder: Path, output: Path, *extra: str, config: str = "", stage: str = "stage1") -> list[str]:
    """Return the arguments that train a stage."""
    given = [config or settings(stage), "--stage", stage, "--output", str(output), "--device", "cpu", *extra]
    given += ["--data-path", str(folder / "train.csv"), "--valid-path", str(folder / "test.csv")]
    return given if "--init-from" in extra else [*given, "--spatial", str(folder / "spatial")]


def cached(folder: Path) -> list[str]:
    """Return the arguments that name the latent cache."""
    return ["--latents", str(folder / "latents.safetensors")]


def train_here(arguments: list[str]) -> None:
    """Train a stage in this process."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.run(parser.parse_args(arguments))


def command(arguments: list[str], ranks: int = 1) -> list[str]:
    """Return the command line that trains a stage, under torchrun where there are several ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={ranks}"]
    return [sys.executable, *(torchrun if ranks > 1 else []), "-m", "video_vae.train", *arguments]


def train_apart(arguments: list[str], ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Train a stage in processes of its own and wait for their end."""
    line = command(arguments, ranks)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=400, env=environment())


def environment() -> dict[str, str]:
    """Return the environment of a training: one thread, so that tests beside it get on."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(output: Path, name: str = "model") -> dict[str, Tensor]:
    """Read the weights of a finished stage."""
    return load_file(output / name / MODEL_FILE)


def log_lines(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Read the lines of a log.jsonl, of one event where it is named."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if event in (None, line["event"])]


def wait_for_step(state: Path, step: int) -> None:
    """Wait until a training has written a line of this step or a later one to its log."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for log in state.glob("*/*/log.jsonl"):
            text = log.read_text()
            if any(f'"step": {number},' in text for number in range(step, step + 40)):
                return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} after five minutes")


def same_models(first: Path, second: Path) -> bool:
    """Tell whether two finished stages have the same bits, averaged and raw."""
    pairs = [(weights(first, name), weights(second, name)) for name in ("model", "model_raw")]
    return all(torch.equal(one[key], other[key]) for one, other in pairs for key in one)
