"""Whether clips are large enough: held-out ones, and long enough, for their protocol, training ones for its sizes."""

from __future__ import annotations

from collections.abc import Sequence

from video_vae.config import Config, Data
from video_vae.config.protocols import scored_as
from video_vae.config.sizes import size_text
from video_vae.data.sampling import Sampling
from video_vae.data.table import Clip
from video_vae.errors import UserError

MAX_NAMED = 3
"""Clips named of each kind."""


def check_fit(config: Config, held_out: Sequence[Clip]) -> None:
    """Check the clips that a run scores against the protocol that its config names, if it names one.

    Raises:
        UserError: one line that counts and names the clips that are too short or too small, with the cure.
    """
    problem = unfit(config, held_out)
    if problem:
        raise UserError(f"evaluation.protocol: {problem}")


def unfit(config: Config, held_out: Sequence[Clip]) -> str:
    """Say which held-out clips do not fit a config's protocol, and the cure; empty where all do or there is none."""
    if config.evaluation.protocol is None:
        return ""
    scored = scored_as(config)
    frames, (height, width) = scored.reconstruction.max_frames, scored.data.resolution
    sampling, zoom = Sampling.of(scored.data), scored.data.zoom
    clips = [clip for clip in held_out if clip.kind == "video"]
    counts = {clip.clip_id: sampling.count(clip) for clip in clips}
    short = [f"{name}: {count}" for name, count in counts.items() if count < (frames or 1)]
    small = [
        f"{clip.clip_id}: {clip.height}x{clip.width}"
        for clip in clips
        if clip.height < zoom * height or clip.width < zoom * width
    ]
    said, cures = [], []
    if short:
        said.append(f"shorter than {frames} frames: {len(short)} of {len(clips)} held-out clips ({_named(short)})")
        own = Sampling.of(config.data)  # what data.min_frames counts with
        longest = max(own.count(clip) for clip in clips if counts[clip.clip_id] < (frames or 1))
        cures.append(f"data.min_frames: {frames if own == sampling else longest + 1}")
    if small:
        least = f"{zoom * height:g}x{zoom * width:g}"
        said.append(f"smaller than {least} pixels: {len(small)} of {len(clips)} held-out clips ({_named(small)})")
        cures.append(f"data.min_size: {round(zoom * min(height, width))}")
    if not said:
        return ""
    settings = "reconstruction.max_frames or data.resolution"
    cure = f"leave such clips out by {' and '.join(cures)}, or set {settings}, then the results say modified"
    return f"{config.evaluation.protocol}: {'; '.join(said)}; {cure}"


def check_buckets(config: Config, train: Sequence[Clip]) -> None:
    """Check that for each size of `data.buckets`, or of a stage's own, some training clip has as many pixels.

    Raises:
        UserError: if all would have to be enlarged for one of them.
    """
    named = {"data.buckets": config.data.buckets}
    named |= {f"stages.{name}.buckets": config.stages.of(name).buckets or () for name in config.stages.trained}
    for key, buckets in named.items():
        for bucket in buckets:
            size = bucket.resolution
            if train and all(enlargement(clip, size, least_zoom(config.data)) > 1 for clip in train):
                largest = max(train, key=lambda clip: (clip.height * clip.width, clip.clip_id))
                raise UserError(
                    f"{key}: {size_text(size)} is larger than every training clip (the largest, {largest.clip_id}, has "
                    f"{size_text((largest.height, largest.width))} pixels); leave it out or add larger clips"
                )


def least_zoom(data: Data) -> float:
    """Return the smallest enlargement that training windows are seen at."""
    return min(data.scales) if data.crop == "random" else data.zoom


def enlargement(clip: Clip, size: tuple[int, int], zoom: float) -> float:
    """Return how many pixels of what the model sees, at a size and a zoom, there are for one of a clip's, by side."""
    return zoom * max(size[0] / clip.height, size[1] / clip.width)


def _named(clips: Sequence[str]) -> str:
    more = f" and {len(clips) - MAX_NAMED} more" if len(clips) > MAX_NAMED else ""
    return f"{', '.join(clips[:MAX_NAMED])}{more}"
