"""What was not scored, in sentences for the terminal, the summary and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from video_vae.metrics.pairing import Pairing, unread_text
from video_vae.metrics.scoring import ClipScores, Refused

NAMED = 5
"""How many clips a sentence names; the summary lists all."""


def left_out(pairing: Pairing, scores: Sequence[ClipScores], refused: Sequence[Refused]) -> list[str]:
    """Say with counts and names which clips, frames and folders were left out; empty where nothing was."""
    found = []
    if pairing.unpaired:
        names = [f"{lacking['clip_id']} (missing from {lacking['missing_from']})" for lacking in pairing.unpaired]
        found.append(f"{_clips(len(names), 'has', 'have')} no partner: {_listed(names)}")
    if refused:
        names = [f"{clip.clip_id} ({clip.variant}: {clip.reason})" for clip in refused]
        found.append(f"{_clips(len(names), 'is', 'are')} not scored: {_listed(names)}")
    return found + unequal_lengths(scores) + unread_folders(pairing.unread)


def unequal_lengths(scores: Sequence[ClipScores]) -> list[str]:
    """Say which clips are shorter or longer than their originals; at most one sentence for each of the two."""
    found = []
    for word, ours in (("shorter", True), ("longer", False)):
        names = [
            f"{clip.name} ({clip.variant}: {clip.lengths[1]} frames, original {clip.lengths[0]})"
            for clip in scores
            if clip.unequal and (clip.lengths[1] < clip.lengths[0]) == ours
        ]
        if names:
            count = f"{len(names)} of {len(scores)} clips {'is' if len(names) == 1 else 'are'}"
            found.append(f"{count} {word} than the original, only the frames that both have count: {_listed(names)}")
    return found


def unread_folders(unread: Sequence[Path]) -> list[str]:
    """Say which subfolders were not looked into."""
    return [unread_text(unread)] if unread else []


def _clips(count: int, singular: str, plural: str) -> str:
    return f"1 clip {singular}" if count == 1 else f"{count} clips {plural}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
