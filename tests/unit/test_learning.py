"""Evidence that the training is right: it learns a clip by heart, and its first losses are those in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training_material import cached, log_lines, make_data, options, settings, train_here
from video_vae import losses
from video_vae.config import Stage
from video_vae.distributed.ranks import Ranks
from video_vae.models import TemporalAutoencoderKL
from video_vae.models.init import start_as_interpolation
from video_vae.training.optimization import Optimization

FIRST_LOSSES = Path(__file__).parents[1] / "golden" / "first_losses.json"
"""What a run of 50 steps logged. A change of the recipe shows here: write it again where the change is meant."""
STEPS = 300


def _moving_waves(side: int = 4, frames: int = 17) -> Tensor:
    """Return a clip of latents (1, 4, T, H, W) that moves smoothly, another way in each channel."""
    channel = torch.arange(4.0)[:, None, None, None]
    time = torch.linspace(0, 1, frames)[None, :, None, None]
    rows = torch.linspace(0, 1, side)[None, None, :, None]
    columns = torch.linspace(0, 1, side)[None, None, None, :]
    waves = torch.sin(6 * (columns * (1 + channel / 4) + time * (1 + channel / 3)))
    return (waves * torch.cos(5 * (rows - time * channel / 2)))[None]


def _error(net: TemporalAutoencoderKL, clip: Tensor) -> Tensor:
    """Return the net's error on a clip through the posterior's mode."""
    with torch.no_grad():
        return net.decode(net.encode(clip).latent_dist.mode(), clip.shape[2]).sample - clip


def _learn(net: TemporalAutoencoderKL, clip: Tensor, stage: Stage, steps: int) -> None:
    """Train on one clip as a stage does."""
    optimization = Optimization(dict(net.named_parameters()), stage, steps, Ranks(device=torch.device("cpu")))
    for step in range(1, steps + 1):
        posterior = net.encode(clip).latent_dist
        reconstruction = net.decode(posterior.sample(torch.Generator().manual_seed(step)), clip.shape[2]).sample
        loss = losses.reconstruction_nll(clip, reconstruction) + stage.kl_weight * losses.kl(posterior)
        optimization.zero_grad()
        loss.backward()
        optimization.step(step, optimization.gradient_norm())


def test_one_clip_is_learnt_by_heart_from_a_random_start() -> None:
    torch.manual_seed(0)
    net, clip = TemporalAutoencoderKL(base_channels=16, layers_per_block=1, norm_num_groups=4), _moving_waves()
    _learn(net, clip, Stage(steps=STEPS, learning_rate=3e-3, schedule="cosine", warmup_steps=10), STEPS)
    psnr = 10 * torch.log10((clip.max() - clip.min()).square() / _error(net, clip).square().mean())
    assert psnr > 40


def test_the_interpolating_start_learns_from_its_first_steps() -> None:
    """A start whose convolutions see large constants is thrown back far behind itself by its first steps."""
    torch.manual_seed(0)
    net, clip = TemporalAutoencoderKL(base_channels=16, layers_per_block=1, norm_num_groups=4), _moving_waves()
    start_as_interpolation(net)
    before = _error(net, clip).abs().mean()
    _learn(net, clip, Stage(steps=20, learning_rate=5e-4, schedule="cosine", warmup_steps=5), 20)
    assert _error(net, clip).abs().mean() < 0.5 * before


def test_the_first_losses_of_a_run_are_those_in_the_file(tmp_path: Path) -> None:
    make_data(tmp_path)
    config = settings(steps=50, validate_every=50, checkpoint_every=50)
    train_here(options(tmp_path, tmp_path / "out", *cached(tmp_path), config=config))
    found = [line["loss"] for line in log_lines(tmp_path / "out" / "log.jsonl", "train")]
    wanted = json.loads(FIRST_LOSSES.read_text(encoding="utf-8"))
    assert len(found) == len(wanted) == 50
    # Sums in another order, on other processors, move the last digits, and every step moves them further.
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
