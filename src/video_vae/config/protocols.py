"""Protocols of evaluation by name: what decides which number the same weights get. Imports no torch.

A protocol sets how held-out clips are seen, cut and scored, and nothing of a training. A setting that is not at its
default stays as it is; then the results say `modified`, and in what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from video_vae.config.schema import Config
from video_vae.config.types import Metric, ProtocolName, Settings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How clips are seen, cut and scored; docs/method.md gives a source for each value."""

    resolution: tuple[int, int]
    """Height and width in pixels: shorter side resized, centre cropped."""
    frames: int | None
    """Frames of a window; None takes clips whole."""
    windows: int = 1
    """Most windows of a clip, without overlap; the first one starts with the clip."""
    fps: float | None = None
    """Frames per second that clips are resampled to; None takes their frames as they are."""
    stride: int = 1
    """Every n-th frame is taken."""
    metrics: tuple[Metric, ...]
    benchmark: str | None = None
    """The set of clips that it is about, by the name of its list in `data/benchmarks`."""


PROTOCOLS: Mapping[ProtocolName, Protocol] = {
    "open-sora-report": Protocol(
        resolution=(256, 256), frames=17, fps=24.0, metrics=("ssim", "psnr", "lpips", "flolpips")
    ),
    "wf-vae": Protocol(resolution=(256, 256), frames=33, metrics=("psnr", "ssim", "lpips")),
    "vidtok-mcl-jcv": Protocol(
        resolution=(256, 256), frames=17, windows=1000, metrics=("psnr", "ssim", "lpips_vgg"), benchmark="mcl-jcv"
    ),
    "davis": Protocol(resolution=(480, 848), frames=None, metrics=("psnr", "ssim"), benchmark="davis"),
    "tokenbench": Protocol(resolution=(480, 640), frames=None, metrics=("psnr", "ssim"), benchmark="tokenbench"),
}
_KEYS: Mapping[str, tuple[str, str]] = {
    "resolution": ("data", "resolution"),
    "crop": ("data", "zoom"),
    "rate": ("data", "fps"),
    "stride": ("data", "frame_interval"),
    "frames": ("reconstruction", "max_frames"),
    "windows": ("reconstruction", "windows"),
    "posterior": ("reconstruction", "sample"),
    "metrics": ("evaluation", "metrics"),
}
"""What a protocol sets: its word in results, and the section and name of the setting."""


def _values(protocol: Protocol) -> dict[str, Any]:
    return {
        "resolution": protocol.resolution,
        "crop": 1.0,
        "rate": protocol.fps,
        "stride": protocol.stride,
        "frames": protocol.frames,
        "windows": protocol.windows,
        "posterior": False,
        "metrics": protocol.metrics,
    }


def protocol_of(config: Config) -> Protocol | None:
    """Return the protocol that a config names; None where it names none."""
    return None if config.evaluation.protocol is None else PROTOCOLS[config.evaluation.protocol]


def scored_as(config: Config) -> Config:
    """Return the settings that held-out clips are reconstructed and scored with: the config's, set by its protocol.

    Settings that are not at their default stay. The protocol's name stays, too: doing it twice changes nothing.
    """
    protocol = protocol_of(config)
    if protocol is None:
        return config
    default, values = Config(), _values(protocol)
    sections: dict[str, Settings] = {}
    for word, (section, name) in _KEYS.items():
        given = sections.get(section, getattr(config, section))
        if getattr(given, name) == getattr(getattr(default, section), name):
            given = given.model_copy(update={name: values[word]})
        sections[section] = given
    return config.model_copy(update=sections)


def protocol_text(config: Config) -> str | None:
    """Say under which protocol a config's results are: its name, and `modified` with what differs; None without one."""
    protocol = protocol_of(config)
    if protocol is None:
        return None
    changes = list(_changes(scored_as(config), protocol))
    return f"{config.evaluation.protocol}, modified: {'; '.join(changes)}" if changes else config.evaluation.protocol


def _changes(config: Config, protocol: Protocol) -> Iterator[str]:
    """Say what of a protocol a config leaves; metrics beyond its own leave nothing."""
    for word, wanted in _values(protocol).items():
        section, name = _KEYS[word]
        value = getattr(getattr(config, section), name)
        if word == "metrics":
            missing = [metric for metric in wanted if metric not in value]
            if missing:
                yield f"without {', '.join(missing)}"
        elif value != wanted:
            yield f"{word} {_shown(word, value)} instead of {_shown(word, wanted)}"


def _shown(word: str, value: Any) -> str:
    if word == "resolution":
        return f"{value[0]}x{value[1]}"
    if word == "posterior":
        return "drawn" if value else "mode"
    if value is None:
        return "as it is" if word == "rate" else "all"
    return f"{value:g}"
