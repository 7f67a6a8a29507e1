"""What is said of the rivals: where they come from, and what their storage did to them."""

from __future__ import annotations

from video_vae.config import runs as config_runs
from video_vae.report.compare import rival_rows
from video_vae.report.tables import Results


def lossy_rivals(results: Results) -> dict[str, str]:
    """Say how the videos of rivals were stored where that changed them: name -> storage."""
    said = {run.name: run.record for run in results.conditions}
    found = {}
    for row in rival_rows(results):
        part = config_runs.RivalName(row.variant)
        owner = config_runs.evaluation_owner(results.settings, row.experiment, part)
        record = said.get(f"{owner}/{config_runs.part_folder(part)}", {})
        if record.get("lossless") is False:
            found[row.variant] = str(record.get("storage", {}).get(row.variant, "a lossy video"))
    return found


def notes(results: Results) -> list[tuple[str, str]]:
    """Explain each rival in a line: name and what it is."""
    lossy = lossy_rivals(results)
    found = []
    for row in rival_rows(results):
        rival = results.config.compare[row.variant]
        what = f"each frame through another spatial VAE, {rival.spatial}"
        if rival.videos is not None:
            what = f"videos made elsewhere, from {rival.videos}"
        how = f"; stored as {lossy[row.variant]}" if row.variant in lossy else ""
        found.append((row.variant, f"compared on the same windows: {what}{how}"))
    return found
