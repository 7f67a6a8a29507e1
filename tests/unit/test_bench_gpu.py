"""The benchmark of the GPU says why it is skipped, and works at small sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_skipped_with_a_reason() -> None:
    assert bench("gpu-frames") == (
        "bench-gpu: skipped, torch finds no CUDA device (--device cpu --quick shows that it works)\n"
    )


@pytest.mark.slow
def test_small_sizes_run_on_the_processor() -> None:
    said = bench("--device", "cpu", "--quick", "--rounds", "1")
    assert [said.count(f"stage {stage}, ") for stage in (1, 2, 3)] == [4, 4, 4]
    assert "stage 1 as public code" in said and "reconstruct, bf16" in said and "a pair at a time" in said
