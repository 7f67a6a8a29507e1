"""Encode and decode videos of any length chunk by chunk, equal to one pass over the whole, in bounded memory.

Only nets with ``norm_scope="frame"`` are strictly causal; each convolution then needs no more than the last frames of
its input from the chunk before (WF-VAE, "causal cache").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from video_vae.models.blocks import pad_start


def in_groups(chunks: Iterable[Tensor], padding: int, group: int, pad_mode: str) -> Iterator[Tensor]:
    """Regroup chunks (B, C, t, H, W) so that each holds whole groups of frames, ``padding`` of them before the first.

    Args:
        chunks: consecutive frames.
        padding: how many frames go in front.
        group: frames of a group.
        pad_mode: what they are, as ``pad_start`` takes it.

    Raises:
        ValueError: if the stream ends inside a group.
    """
    rest: Tensor | None = None
    for chunk in chunks:
        if not chunk.shape[2]:
            continue  # it has no first frame
        chunk = pad_start(chunk, padding, pad_mode) if rest is None else torch.cat((rest, chunk), dim=2)
        whole = chunk.shape[2] // group * group
        if whole:
            yield chunk[:, :, :whole]
        rest = chunk[:, :, whole:]
    if rest is not None and rest.shape[2]:
        raise ValueError("the stream ended inside a group of frames; num_frames is not the number of frames given")


def total_frames(chunks: Iterable[Tensor], num_frames: int | None) -> int:
    """Return the number of frames of a stream: as given, or counted where all chunks are there.

    Raises:
        ValueError: if it is not given and the chunks come from an iterator; how many frames go in front depends on it.
    """
    if num_frames is not None:
        return num_frames
    if isinstance(chunks, list | tuple):
        return sum(chunk.shape[2] for chunk in chunks)
    raise ValueError("give num_frames: the padding before the first frame depends on the length of the stream")
