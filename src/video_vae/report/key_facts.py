"""The key facts of a report, in few lines: code, seeds, machine, and the hashes of all weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from video_vae.report.tables import Run
from video_vae.report.terms import METRICS, counted


def key_facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Say in few lines what code ran, with which seeds, on what: label and text, several values one after the other."""
    records = [run.record for run in runs if run.record.get("code")]
    facts: dict[str, list[Any]] = {
        "Code": [_code(record["code"]) for record in records],
        "Seed": [record.get("seed") for record in records],
        "Processor": [_machine(record.get("hardware") or {}) for record in records],
        "GPU": [", ".join((record.get("hardware") or {}).get("gpus") or []) for record in records],
        "Ranks × threads": [f"{record.get('world_size')} × {record.get('threads')}" for record in records],
        "Python": [record.get("python") for record in records],
        "PyTorch": [(record.get("packages") or {}).get("torch") for record in records],
        "System": [(record.get("hardware") or {}).get("system") for record in records],
    }
    facts["Trained on"] = [_trained_on(record.get("prepared")) for record in records]
    said = {label: dict.fromkeys(str(value) for value in facts[label] if value not in (None, "")) for label in facts}
    return [(label, "; ".join(values)) for label, values in said.items() if values]


def _trained_on(prepared: Mapping[str, Any] | None) -> str:
    """Say what a training saw in place of the clips."""
    if not prepared:
        return ""
    exact = "exact" if prepared["psnr"] is None else f"{prepared['psnr']} dB"
    return f"clips prepared as {prepared['prepare']} ({exact}); scores are of the clips themselves"


def checks(conditions: Sequence[Run]) -> list[tuple[str, str]]:
    """Say how well the scores agree with those that other programs give to a sample of the frames."""
    checked = [run.record["check"] for run in conditions if run.record.get("check")]
    largest: dict[str, float] = {}
    for check in checked:
        for name, difference in check["largest_difference"].items():
            largest[name] = max(largest.get(name, 0.0), float(difference))
    if not largest:
        return []
    said = ", ".join(f"{METRICS[name].label} {difference:.1e}" for name, difference in largest.items())
    by = " and ".join(dict.fromkeys(f"{name} {version}" for check in checked for name, version in check["by"].items()))
    frames = counted(sum(check["frames"] for check in checked), "frame")
    return [("Scores checked", f"{frames} again by {by}; largest differences: {said}")]


def _code(code: Mapping[str, Any]) -> str:
    commit, sources = code.get("commit"), code.get("sources")
    state = "with uncommitted changes" if code.get("dirty") else "clean"
    said = f"commit {str(commit)[:12]}, {state}" if commit else "no git checkout"
    return f"{said}, sources {sources}" if sources else said


def _machine(hardware: Mapping[str, Any]) -> str:
    memory = f", {hardware['memory_gb']} GB" if hardware.get("memory_gb") else ""
    return f"{hardware['processor']}, {hardware.get('cores')} cores{memory}" if hardware.get("processor") else ""


def weights_used(conditions: Sequence[Run], runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """List all weights by their hash: what they are, their sha256, and which scores or runs they stand behind."""
    found: dict[tuple[str, str], list[str]] = {}

    def note(what: str, sha256: Any, name: str) -> None:
        """Add a user of some weights."""
        if sha256:
            found.setdefault((what, str(sha256)), []).append(name)

    for scored in conditions:
        record = scored.record
        note("video VAE", record.get("weights_sha256"), scored.name)
        note("spatial VAE", record.get("spatial_sha256"), scored.name)
        for net, sha256 in (record.get("lpips_sha256") or {}).items():
            note(f"LPIPS, {net}", sha256, scored.name)
        note(f"optical flow, {record.get('flow')}", record.get("flow_sha256"), scored.name)
        note("feature net of rFVD", record.get("fvd_sha256"), scored.name)
    for run in runs:
        note("LPIPS of the training loss", run.record.get("lpips_sha256"), run.name)
    return [(what, sha256, ", ".join(dict.fromkeys(names))) for (what, sha256), names in found.items()]
