"""What is said of rivals and quantised latents: where they come from, and what their storage did to them."""

from __future__ import annotations

from video_vae.config import runs as config_runs
from video_vae.config.rivals import CODEC_BITS
from video_vae.report.compare import quantised_rows, rival_rows
from video_vae.report.tables import Results
from video_vae.report.terms import variant_label


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
    """Explain quantised latents and each rival in a line: name and what it is."""
    lossy = lossy_rivals(results)
    quantised = "as the video VAE, its latents quantised uniformly by channel before they are decoded"
    found = [(variant_label(row.variant), quantised) for row in quantised_rows(results)]
    for row in rival_rows(results):
        rival = results.config.compare[row.variant]
        what = f"each frame through another spatial VAE, {rival.spatial}"
        if rival.codec is not None:
            what = (
                f"the codec {rival.codec} in at most the bits that the latents take at {CODEC_BITS} bits per number; "
                "a reference, which small nets lose to"
            )
        if rival.videos is not None:
            what = f"videos made elsewhere, from {rival.videos}"
        how = f"; stored as {lossy[row.variant]}" if row.variant in lossy else ""
        found.append((row.variant, f"compared on the same windows: {what}{how}"))
    return found
