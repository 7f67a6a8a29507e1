"""What scores were made under: a number means nothing without it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from video_vae import __version__
from video_vae.config.protocols import PROTOCOLS
from video_vae.data.benchmark import differs, load_benchmark
from video_vae.data.table import beside, read_csv_rows
from video_vae.errors import UserError
from video_vae.metrics.intervals import CONFIDENCE, RULE
from video_vae.metrics.pixel import PSNR_CAP, PSNR_FLOOR
from video_vae.metrics.reading import View
from video_vae.metrics.scoring import ClipScores
from video_vae.metrics.tools import Tools
from video_vae.provenance import code_record, package_versions

log = logging.getLogger(__name__)

MIXED = "mixed"
MAKERS = ("weights_sha256", "spatial_sha256")
RULES = {
    "psnr": f"mean over frames; {PSNR_CAP:g} dB where the mean squared error (range 1) is below {PSNR_FLOOR:g}",
    "ssim": "Gaussian 11x11, sigma 1.5, valid region, biased covariance, mean over RGB, range 1",
    "lpips": "AlexNet, v0.1, mean of the map at full resolution",
    "lpips_vgg": "VGG16, v0.1, mean of the map at full resolution",
    "flolpips": "frame t, weighted by the difference of the flows from t to t+1",
    "vmaf": "model v0.6.1 of each frame, 0 to 100, of 8-bit BT.709 luma, by vmaf-torch",
    "warping_error": "mean squared difference (range 1) of t and t-1 carried by the original's flow, where both show",
    "tof": "mean over pixels of the length of the difference of the flows from t-1 to t, in pixels",
    "flicker": "mean over pixels of |change of the variant - change of the original| between frames, in 8-bit levels",
}


def wanted_clips(tables: Iterable[Path]) -> list[str]:
    """Read the names that tables list under `clip_id`.

    Raises:
        UserError: if a table cannot be read or has no such column.
    """
    names: dict[str, None] = {}
    for table in tables:
        header, rows = read_csv_rows(table)
        if "clip_id" not in header:
            raise UserError(f"{table} has no column clip_id; give a table of clips, or leave --clips out")
        names |= dict.fromkeys(row["clip_id"] for row in rows)
    return list(names)


def clip_sources(scores: Iterable[ClipScores], tables: Iterable[Path]) -> dict[str, str]:
    """Name the source that each clip was cut from: as a table's `source_id`, the original, or a table's `source` says.

    Clips of which nothing is said are left out.
    """
    found = {clip.clip_id: clip.real.source_id for clip in scores}
    for table in tables:
        _, rows = read_csv_rows(table)
        for row in rows:
            said = (row.get("source_id"), found.get(row["clip_id"]), row.get("source"))
            found[row["clip_id"]] = next(filter(None, said), "")
    return {clip_id: source for clip_id, source in found.items() if source}


def made_by(tables: Iterable[Path]) -> dict[str, str]:
    """Read which weights made the clips from the records beside the lists of them, where there are any."""
    found: dict[str, set[str]] = {}
    for table in tables:
        record = beside(table, "run.json")
        try:
            settings = json.loads(record.read_text(encoding="utf-8")).get("settings", {})
        except (OSError, ValueError, AttributeError):
            continue
        for name in MAKERS:
            if isinstance(settings.get(name), str):
                found.setdefault(name, set()).add(settings[name])
    for name, values in found.items():
        if len(values) > 1:
            log.warning("the clips were made with different %s: %s", name, ", ".join(sorted(values)))
    return {name: values.pop() if len(values) == 1 else MIXED for name, values in found.items()}


def stated(protocol: str | None, scores: Iterable[ClipScores]) -> dict[str, str]:
    """State the protocol that clips were scored by, and where they are others than those of its set.

    Args:
        protocol: as `protocol_text` says it: its name, and what differs.
        scores: of all clips.
    """
    if protocol is None:
        return {}
    name = protocol.partition(",")[0]
    known = next((values for key, values in PROTOCOLS.items() if key == name), None)
    if known is None or known.benchmark is None:
        return {"protocol": protocol}
    other = differs(load_benchmark(known.benchmark), (clip.clip_id for clip in scores))
    more = f"{'; ' if 'modified' in protocol else ', modified: '}{other}" if other else ""
    return {"protocol": protocol + more}


def conditions(
    scores: Sequence[ClipScores],
    view: View,
    tools: Tools,
    sample_fps: float | None,
    folders: Mapping[str, Path],
    makers: Mapping[str, str],
) -> dict[str, Any]:
    """Describe under which conditions scores were made; JSON-like."""
    flow = tools.flow
    sizes = sorted({(clip.height, clip.width) for clip in scores})
    rates = {clip.real.fps for clip in scores}
    limit = view.num_frames
    return {
        "version": __version__,
        "metrics": list(tools.metrics),
        "definitions": {name: RULES[name] for name in tools.metrics},
        "folders": {name: str(folder) for name, folder in folders.items()},
        "resolution": ", ".join(f"{height}x{width}" for height, width in sizes) if len(sizes) < 4 else MIXED,
        "resize": view.resolution,
        "crop": view.crop_size,
        "frames": limit,
        "stride": view.sample_rate,
        "fps": sample_fps if sample_fps is not None else rates.pop() if len(rates) == 1 else MIXED,
        "storage": _storage(scores),
        "lossless": all(clip.real.lossless and clip.generated.lossless for clip in scores),
        "flow": None if flow is None else flow.name,
        "flow_sha256": getattr(flow, "sha256", None),
        "lpips": {name: net.name for name, net in tools.nets.items()},
        "lpips_sha256": {name: net.sha256 for name, net in tools.nets.items()},
        **{name: makers.get(name) for name in MAKERS},
        "interval": f"95 %: {RULE}",
        "confidence": CONFIDENCE,
        "windows": len({(clip.clip_id, clip.window) for clip in scores}),
        **_lengths(scores, limit),
        "device": tools.device.type,
        "packages": package_versions(),
        "code": code_record(),
    }


def _lengths(scores: Sequence[ClipScores], limit: int | None) -> dict[str, Any]:
    """Count the clips that are shorter than asked for or than their original, with the rule for each."""
    return {
        "shorter_clips": sum(limit is not None and _frames(clip) < limit for clip in scores),
        "shorter_rule": "clips with fewer frames are scored at their length",
        "unequal_lengths": sum(clip.unequal for clip in scores),
        "unequal_rule": "where lengths differ, the first frames that both have are scored",
    }


def _frames(clip: ClipScores) -> int:
    return len(next(iter(clip.values.values())))


def _storage(scores: Sequence[ClipScores]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for clip in scores:
        found.setdefault("real", set()).add(clip.real.storage)
        found.setdefault(clip.variant, set()).add(clip.generated.storage)
    return {name: "; ".join(sorted(values)) for name, values in found.items()}
