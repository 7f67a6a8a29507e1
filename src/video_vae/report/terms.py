"""The words and units of the report: metrics, stages, variants, and how their numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from video_vae.config.types import QUANTISED


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is called and written."""

    key: str
    label: str
    unit: str
    decimals: int
    higher_is_better: bool
    meaning: str
    smallest: float
    """Smallest difference that matters, in its unit: below it a verdict would be on what nobody sees."""

    @property
    def axis(self) -> str:
        """Label of an axis: name, unit, and which way is better."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.label}{unit} ({'higher' if self.higher_is_better else 'lower'} is better)"

    @property
    def arrow(self) -> str:
        """Which way is better, as an arrow."""
        return "↑" if self.higher_is_better else "↓"


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            key="psnr",
            label="PSNR",
            unit="dB",
            decimals=2,
            higher_is_better=True,
            meaning="peak signal-to-noise ratio of each frame, averaged",
            smallest=0.1,
        ),
        Metric(
            key="ssim",
            label="SSIM",
            unit="",
            decimals=4,
            higher_is_better=True,
            meaning="structural similarity (Gaussian 11x11, sigma 1.5), averaged over frames",
            smallest=0.002,
        ),
        Metric(
            key="lpips",
            label="LPIPS",
            unit="",
            decimals=4,
            higher_is_better=False,
            meaning="learned perceptual distance (AlexNet, v0.1), averaged over frames",
            smallest=0.002,
        ),
        Metric(
            key="flolpips",
            label="FloLPIPS",
            unit="",
            decimals=4,
            higher_is_better=False,
            meaning="LPIPS of consecutive frames weighted by how far the motion is off",
            smallest=0.002,
        ),
        Metric(
            key="flicker",
            label="Flicker",
            unit="grey levels",
            decimals=2,
            higher_is_better=False,
            meaning="how far the change from frame to frame differs from the original's, of 255",
            smallest=0.05,
        ),
        Metric(
            key="lpips_vgg",
            label="LPIPS (VGG)",
            unit="",
            decimals=4,
            higher_is_better=False,
            meaning="learned perceptual distance with VGG, the net of the training loss",
            smallest=0.002,
        ),
        Metric(
            key="vmaf",
            label="VMAF",
            unit="",
            decimals=1,
            higher_is_better=True,
            meaning="learned fusion of detail and motion (v0.6.1, 0 to 100), averaged over frames",
            smallest=1.0,
        ),
        Metric(
            key="warping_error",
            label="Warping error",
            unit="",
            decimals=6,
            higher_is_better=False,
            meaning="squared difference of a frame and the one before, carried along the original's motion",
            smallest=0.0001,
        ),
        Metric(
            key="tof",
            label="tOF",
            unit="px",
            decimals=3,
            higher_is_better=False,
            meaning="how far the motion from frame to frame differs from the original's",
            smallest=0.02,
        ),
    )
}

STAGE_LABELS = {
    "start": "Start",
    "stage1": "Stage 1",
    "stage2": "Stage 2",
    "stage3": "Stage 3",
    "compare": "Compared",
    "baseline": "Baseline",
}

VARIANT_LABELS = {
    "ori": "Original",
    "rec": "Video VAE",
    "spatial": "Spatial VAE alone",
    "repeat": "Every fourth latent repeated",
    "mean": "Mean frame",
}

SHORT_LABELS = {"spatial": "Spatial alone", "repeat": "Repeated latents", "mean": "Mean frame"}

VARIANT_NOTES = {
    "rec": "the whole pipeline: spatial VAE, temporal VAE and back",
    "spatial": "each frame through the spatial VAE alone: no compression in time, so a ceiling for the pipeline",
    "repeat": "baseline: the spatial latent of every fourth frame, held for four frames, then decoded",
    "mean": "baseline: the mean frame of the clip, shown throughout",
}

FLOW_LABELS = {"dis": "DIS (OpenCV)", "pwcnet": "PWC-Net", "raft": "RAFT"}

MISSING = "–"


def stage_label(stage: str) -> str:
    """Name a stage for people."""
    return STAGE_LABELS.get(stage, stage)


def variant_label(variant: str) -> str:
    """Name a variant for people."""
    bits = QUANTISED.fullmatch(variant)
    return VARIANT_LABELS.get(variant, f"Video VAE, latents of {bits[1]} bits" if bits else variant)


def flow_label(flow: str) -> str:
    """Name an optical flow for people."""
    return FLOW_LABELS.get(flow, flow)


def number(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Write a number with a true minus sign, except of a zero, as scripts write it; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+z.{decimals}f}" if signed else f"{value:z.{decimals}f}"
    return text.replace("-", "−")


def rounded(value: float | None, decimals: int = 2) -> float | None:
    """Round as `number` writes it, for scripts that write it again: twice, 26.3254 would be 26.325 and 26.32."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{decimals}f}")


def compact(value: float, _: int | None = None) -> str:
    """Write a tick's number in few characters: 20k, 0.05, 1e-4."""
    if value < 0:
        return f"−{compact(-value)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k" if abs(value) < 1_000_000 else f"{value / 1e6:g}M"
    if value and abs(value) < 0.001:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:g}"


def duration(seconds: float | None) -> str:
    """Write a time span: 850 ms, 42 s, 12 min 05 s, 3 h 20 min, 4 d 7 h."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: 1 clip, 12 clips."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
