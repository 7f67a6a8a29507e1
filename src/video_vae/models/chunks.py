"""Cut long clips into chunks that may overlap, and blend what the chunks give where they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from video_vae.models.blocks import at_least_fp32


def chunk_spans(num_frames: int, length: int | None, overlap: int = 0) -> list[range]:
    """List the frames of each chunk: ``length`` frames (None: all), the first ``overlap`` of them shared with the last.

    Raises:
        ValueError: if more than half of a chunk is to be shared.
    """
    length = length or num_frames
    if not 0 <= 2 * overlap <= length and num_frames > length:
        raise ValueError(f"chunks of {length} frames cannot overlap by {overlap}: at most by half")
    if num_frames <= length:
        return [range(num_frames)]
    return [range(first, min(first + length, num_frames)) for first in range(0, num_frames - overlap, length - overlap)]


def in_chunks(
    pieces: Iterable[Tensor], length: int, overlap: int = 0, total: int | None = None
) -> Iterator[tuple[Tensor, bool]]:
    """Cut a stream of pieces (B, C, t, H, W), any t, into the chunks of ``chunk_spans``, and tell which is the last.

    A chunk is given as soon as it is complete where ``total``, the length of the whole stream, is known; otherwise as
    soon as the stream is seen to go on.

    Raises:
        ValueError: if the stream has another length than was said.
    """
    held: Tensor | None = None
    start = 0
    for piece in pieces:
        held = piece if held is None else torch.cat((held, piece), dim=2)
        _check_length(start + held.shape[2], total, ended=False)
        while held.shape[2] > length or (total is not None and held.shape[2] == length and start + length < total):
            yield held[:, :, :length], False
            start += length - overlap
            held = held[:, :, length - overlap :]
    _check_length(start if held is None else start + held.shape[2], total, ended=True)
    if held is not None and held.shape[2]:
        yield held, True


def _check_length(seen: int, total: int | None, ended: bool) -> None:
    if total is not None and (seen > total or (ended and seen < total)):
        more = "" if ended else "at least "
        raise ValueError(f"num_frames is wrong: the stream has {more}{seen} frames (or latents), not {total}")


def crossfade(old: Tensor, new: Tensor) -> Tensor:
    """Fade linearly over the frames of two tensors (B, C, T, H, W), from the first to the second."""
    count = old.shape[2]
    first, second = at_least_fp32(old), at_least_fp32(new)
    weight = torch.arange(1, count + 1, device=old.device, dtype=first.dtype).div(count + 1).view(1, 1, -1, 1, 1)
    return torch.lerp(first, second, weight).to(old.dtype)


class Joiner:
    """Joins chunks (B, C, t, H, W) whose first ``overlap`` frames repeat the last ones of the chunk before."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._held: Tensor | None = None

    def join(self, chunk: Tensor, last: bool) -> Tensor:
        """Return the frames that are settled: all but those that the next chunk repeats."""
        if not self._overlap:
            return chunk
        if self._held is not None:
            faded = crossfade(self._held, chunk[:, :, : self._overlap])
            chunk = torch.cat((faded, chunk[:, :, self._overlap :]), dim=2)
        if last:
            return chunk
        self._held = chunk[:, :, -self._overlap :]
        return chunk[:, :, : -self._overlap]


def join(chunks: Iterable[Tensor], spans: list[range], overlap: int) -> Tensor:
    """Join the chunks of some spans, (B, C, t, H, W) each."""
    joiner = Joiner(overlap)
    return torch.cat([joiner.join(chunk, span is spans[-1]) for chunk, span in zip(chunks, spans, strict=True)], dim=2)
