"""The paper's config builds the full-size net and takes real steps of all three stages, on small frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import lpips
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from material import make_clip
from training_material import log_lines, train_here
from video_vae.data.table import write_table
from video_vae.training.setup import computes_bf16

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"
SIDE = 32


def make_inputs(folder: Path) -> None:
    """Write a table, a spatial VAE of the SDXL VAE's size, and LPIPS weights; all weights are random."""
    clips = [make_clip(folder, name, 36) for name in ("a", "bb")]
    write_table(folder / "train.csv", clips)
    write_table(folder / "test.csv", clips[:1])
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    net = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks)
    net.save_pretrained(folder / "spatial")
    state = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith(("lins.", "scaling"))}, folder / "vgg.safetensors")


def settings(stage: str) -> str:
    """Return the paper's settings with small frames and two steps of a clip; the third stage saves memory."""
    values: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    values["data"]["resolution"] = [SIDE, SIDE]
    third = {"gradient_checkpointing": True, "frames": [1, 18]} if stage == "stage3" else {}
    if not computes_bf16(torch.device("cpu")):
        # Emulated, a forward pass takes minutes.
        values["stages"][stage]["precision"] = "fp32"
    values["stages"][stage] |= {"steps": 2, "global_batch": 1, "image_share": 0.5, **third}
    return json.dumps(values)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_papers_config_takes_steps_of_all_stages(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    tables = ["--data-path", str(tmp_path / "train.csv"), "--valid-path", str(tmp_path / "test.csv"), "--device", "cpu"]
    before = ["--spatial", str(tmp_path / "spatial")]
    for stage in ("stage1", "stage2", "stage3"):
        output = tmp_path / stage
        extra = [*before, "--lpips", str(tmp_path)]
        train_here([settings(stage), "--stage", stage, "--output", str(output), *tables, *extra])
        record = json.loads((output / "run.json").read_text())
        assert record["parameters"] == 393_341_007
        assert record["trained_parameters"] == (record["parameters"] if stage == "stage3" else 309_687_144)
        lines = log_lines(output / "log.jsonl", "train")
        assert [line["step"] for line in lines] == [1, 2] and all(line["grad_norm"] > 0 for line in lines)
        before = ["--init-from", str(output / "model")]
        # Gigabytes each.
        shutil.rmtree(tmp_path / "state")
