"""What SLURM's programs write."""

from __future__ import annotations


def minutes_of(text: str) -> float | None:
    """Read a time such as 1-00:00:00, 2:30:00 or 30:00 in minutes; None for UNLIMITED, infinite, INVALID or nothing."""
    days, _, clock = text.strip().rpartition("-")
    parts = [days or "0", *clock.split(":")]
    if len(parts) < 3 or not all(part.isdigit() for part in parts):
        return None
    *hours, minutes, seconds = map(int, parts[1:])
    return int(parts[0]) * 1440 + sum(hours) * 60 + minutes + seconds / 60
