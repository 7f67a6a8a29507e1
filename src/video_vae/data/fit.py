"""Whether held-out clips are long and large enough for the protocol that they are to be scored by."""

from __future__ import annotations

from collections.abc import Sequence

from video_vae.config import Config
from video_vae.config.protocols import scored_as
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


def _named(clips: Sequence[str]) -> str:
    more = f" and {len(clips) - MAX_NAMED} more" if len(clips) > MAX_NAMED else ""
    return f"{', '.join(clips[:MAX_NAMED])}{more}"
