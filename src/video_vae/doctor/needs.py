"""Checks of what a config needs: its clips, weights, packages, and the servers that it would fetch them from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from huggingface_hub import constants

from video_vae.config import Config
from video_vae.config.runs import data_owner, resolve
from video_vae.config.slices import needs_perceptual
from video_vae.config.types import PACKAGE_FILES
from video_vae.doctor.inputs import Lost, lost_metric_weights, lost_rivals, lost_sources, lost_weights
from video_vae.doctor.machine import Check
from video_vae.files import sha256_file
from video_vae.weights.files import KINDS, find_model
from video_vae.weights.hub import cached_model


def hub_address() -> str:
    """Return the address of the model hub (HF_ENDPOINT)."""
    return str(constants.ENDPOINT)


def registry_address() -> str:
    """Return the package index that pip uses, as the help of its own option tells; empty where there is no pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--help"]
    unwrapped = os.environ | {"COLUMNS": "1000"}
    done = subprocess.run(command, env=unwrapped, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"Package Index \(default (\S+?)\)", done.stdout)
    return found[1] if found else ""


def hub_needs(config: Config) -> list[str]:
    """List what a config would fetch from the hub: models that are no local folder and not in the cache."""
    needs = []
    for run in resolve(config).values():
        key, source = ("spatial", run.spatial) if run.model.pretrained is None else ("model", run.model)
        rivals = {f"compare.{name}.spatial": rival.net for name, rival in run.compare.items()}
        for named, net in {f"{key}.pretrained": source, **rivals}.items():
            if net is None or net.pretrained is None or net.place is not None:
                continue
            if cached_model(net.pretrained, net.hub_subfolder) is None:
                needs.append(f"{named} {net.pretrained}")
    return sorted(set(needs))


def registry_needs(config: Config, folder: Path) -> list[str]:
    """List the packages of a config that are not fetched yet."""
    named = {"lpips", *(name for run in resolve(config).values() for name in run.data.packages)}
    lost = [name for name in sorted(named) if not (folder / "resources" / name / PACKAGE_FILES).is_file()]
    return [f"resources.{name}" for name in lost]


def check_sources(config: Config) -> Iterator[Check]:
    """Check that the folders, files and tables of clips are there; what they hold is the manifest's business."""
    runs = resolve(config)
    for name, run in runs.items():
        if not run.data.sources and not run.data.packages:
            text = f"{name}: data.sources is empty; name folders with clips, files, or lists of clips"
            yield Check(name="clips", state="broken", text=text)
        lost = list(lost_sources(run, Path("results", data_owner(runs, name), "data")))
        yield from _lost("clips", name, lost)
        if run.data.sources and not lost:
            moved = " (moved away, their results stay)" if run.data.archived else ""
            yield Check(name="clips", state="ok", text=f"{name}: {', '.join(run.data.sources)}{moved}")


def _lost(what: str, name: str, lost: Iterable[Lost]) -> Iterator[Check]:
    for key, text in lost:
        yield Check(name=what, state="broken", text=f"{name}: {key}: {text}")


def check_spatial(config: Config) -> Iterator[Check]:
    """Check the weights that a run starts with, of a spatial VAE or a video VAE: files and hash of a local folder."""
    for name, run in resolve(config).items():
        lost = list(lost_weights(run))
        key, source = ("spatial", run.spatial) if run.model.pretrained is None else ("model", run.model)
        kind = KINDS[key]
        yield from _lost(kind, name, lost)
        if source.pretrained is None:
            yield Check(name="spatial VAE", state="ok", text=f"{name}: a small one is trained (spatial.training)")
        elif source.place is not None and not lost:
            found = find_model(source.place)
            yield _hashed(kind, found.weights[0], found.sha256(), source.sha256, f"{key}.sha256")


def check_rivals(config: Config) -> Iterator[Check]:
    """Check the folders and weights of what the video VAE is compared with; their job looks into videos."""
    for run, settings in resolve(config).items():
        lost = list(lost_rivals(settings))
        yield from _lost("rival", run, lost)
        for name, rival in () if lost else settings.compare.items():
            if rival.videos is not None:
                yield Check(name="rival", state="ok", text=f"{run}: compare.{name}: videos in {rival.videos}")
            elif rival.codec is not None:
                yield Check(name="rival", state="ok", text=f"{run}: compare.{name}: PyAV codes by {rival.codec}")
            elif rival.net is not None and rival.net.place is not None:
                found = find_model(rival.net.place)
                yield _hashed("rival", found.weights[0], found.sha256(), rival.sha256, f"compare.{name}.sha256")


def check_weights(config: Config) -> Iterator[Check]:
    """Check the other weights that a config names by files: optical flow and rFVD; and say what LPIPS needs."""
    settings = config.evaluation
    yield from _lost("weights", config.experiment, lost_metric_weights(config))
    for key, file, digest in (
        ("flow_weights", settings.flow_weights, settings.flow_sha256),
        ("fvd_weights", settings.fvd_weights, settings.fvd_sha256),
    ):
        if file is not None and Path(file).is_file():
            sha256 = f"evaluation.{key.replace('weights', 'sha256')}"
            yield _hashed(f"evaluation.{key}", Path(file), sha256_file(file), digest, sha256)
    if settings.flow_weights is None and "flolpips" in settings.metrics and settings.flow in ("auto", "dis"):
        text = "none: FloLPIPS takes OpenCV's DIS flow, not comparable with published FloLPIPS (PWC-Net)"
        yield Check(name="flow weights", state="note", text=text)
    if any(needs_perceptual(run, "stage3") for run in resolve(config).values()):
        yield Check(
            name="LPIPS weights", state="ok", text="fetched by the workflow (resources.lpips), verified by sha256"
        )


def _hashed(name: str, path: Path, found: str, expected: str | None, key: str) -> Check:
    if expected is not None and found != expected:
        text = f"{path} has sha256 {found}, {key} says {expected}; take the right file or correct the hash"
        return Check(name=name, state="broken", text=text)
    said = "as the config says" if expected else f"not checked: {key} is not set"
    return Check(name=name, state="ok", text=f"{path}, sha256 {found[:16]}... ({said})")
