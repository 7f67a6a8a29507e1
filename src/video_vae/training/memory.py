"""What memory a training takes, and what to change where it is not enough."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from video_vae.config import Stage
from video_vae.errors import UserError


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak so far in GB: of the GPU's tensors, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextmanager
def out_of_memory_named(place: str, data: Tensor, stage: Stage, *, sizes: int = 1) -> Iterator[None]:
    """Turn torch's error of a pass that does not fit into memory into one line.

    Args:
        place: stage and step.
        data: the clips of the pass.
        stage: settings, of which the line names those that help.
        sizes: how many sizes the stage's steps take.

    Raises:
        UserError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # on a CPU the allocator gives no type of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        clips, _, frames, height, width = data.shape
        raise UserError(
            f"{place}: out of memory on {data.device.type} in a pass of {clips} clips of {frames} frames of "
            f"{height}x{width} {stage.objective}; set {', '.join(_cures(data, stage, sizes))}; the same command then "
            "goes on from the newest checkpoint"
        ) from None


def _cures(data: Tensor, stage: Stage, sizes: int) -> list[str]:
    """List the settings of the stage that save memory and are not in use."""
    cures = []
    if data.shape[0] > 1:
        cures.append(f"micro_batch below {data.shape[0]}")
    if not stage.gradient_checkpointing:
        cures.append("gradient_checkpointing: true")
    if not stage.shard_optimizer:
        cures.append("shard_optimizer: true (several ranks)")
    if stage.objective == "pixels" and stage.perceptual_weight and stage.perceptual_frames is None:
        cures.append("perceptual_frames: 4")
    smaller = "or a smaller data.resolution" if sizes == 1 else "or smaller sizes in data.buckets"
    return [*cures, f"the longest of frames below {stage.frames[1]}", smaller]
