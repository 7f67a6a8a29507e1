"""Tone mapping: from high dynamic range (PQ or HLG) to the standard range that everything else here has.

The rule, the same for every frame of every file: light in cd/m² is found by BT.2100 (HLG as on a display of 1,000
cd/m²), and what is above 1,000 is cut. Highlights are rolled off by the curve of BT.2390 to 203 cd/m², the reference
white of BT.2408, by the strongest of the three primaries so that hues stay; light below 88 stays as it is. Colours are
taken to BT.709's primaries, those outside are clipped, and coded by BT.1886 (gamma 2.4).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from video_vae.data.content import MediaError

Codes = NDArray[np.uint16]
"""Non-linear RGB as the file has it: uint16 (3,H,W), 65535 for 1.0."""

PQ, HLG = 16, 18
"""Transfer characteristics of H.273 that mean high dynamic range."""

PEAK, WHITE = 1000.0, 203.0
"""Brightest light that is told apart, and what becomes white, in cd/m²."""

_ROWS = 64
"""Rows converted at once: they stay in the processor's cache."""

_STEPS = 1 << 16
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_IDENTITY = np.eye(3)
_FROM_2020 = np.array([[1.66049, -0.58764, -0.07285], [-0.12455, 1.13290, -0.00835], [-0.01815, -0.10058, 1.11873]])
_FROM_P3 = np.array([[1.22494, -0.22494, 0.0], [-0.04206, 1.04206, 0.0], [-0.01964, -0.07864, 1.09828]])
_PRIMARIES = {1: _IDENTITY, 2: _FROM_2020, 9: _FROM_2020, 12: _FROM_P3}
"""Linear RGB to that of BT.709, by the primaries' number in H.273; the unspecified (2) are BT.2100's."""


def tone_map(codes: Codes, transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Turn PQ or HLG codes into 8-bit BT.709: uint8 (H,W,3).

    Raises:
        MediaError: if the primaries are not those of high dynamic range.
    """
    if primaries not in _PRIMARIES:
        raise MediaError(
            "unreadable",
            f"high dynamic range with primaries {primaries} of H.273, which is not read; make a BT.709 copy with a "
            "video editor or FFmpeg's zscale and tonemap filters",
        )
    matrix = _PRIMARIES[primaries].astype(np.float32)
    result = np.empty((*codes.shape[1:], 3), np.uint8)
    for top in range(0, len(result), _ROWS):
        part = codes[:, top : top + _ROWS]
        colours = part.reshape(3, -1)
        light = _pq_light()[colours] if transfer == PQ else _hlg_light(colours)
        result[top : top + _ROWS] = _standard(light, matrix).reshape(part.shape).transpose(1, 2, 0)
    return result


def _hlg_light(codes: Codes) -> NDArray[np.float32]:
    """Light of a 1,000 cd/m² display, as a share of 1,000 (system gamma 1.2)."""
    scene = _hlg_scene()[codes]
    luminance = _LUMINANCE @ scene
    scene *= np.power(luminance, np.float32(0.2), out=luminance)
    return scene


def _standard(light: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Roll off, change the primaries and code float32 (3,N), shares of `PEAK`."""
    strongest = light.max(axis=0)
    light *= _roll_off()[(np.sqrt(np.sqrt(strongest)) * (_STEPS - 1)).astype(np.uint16)]
    linear = (matrix @ light).clip(0.0, 1.0)
    return _gamma()[(np.sqrt(linear, out=linear) * (_STEPS - 1)).astype(np.uint16)]


@lru_cache(maxsize=1)
def _pq_light() -> NDArray[np.float32]:
    """Light of each code, as a share of `PEAK`, cut there."""
    light = _from_pq(np.arange(_STEPS) / (_STEPS - 1)) / PEAK
    return light.clip(0.0, 1.0).astype(np.float32)


@lru_cache(maxsize=1)
def _hlg_scene() -> NDArray[np.float32]:
    """Scene light of each code, in [0,1] (BT.2100's inverse OETF)."""
    code = np.arange(_STEPS) / (_STEPS - 1)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.clip(0.0, 1.0).astype(np.float32)


@lru_cache(maxsize=1)
def _roll_off() -> NDArray[np.float32]:
    """Factor to light that gives a share of `WHITE`, by the fourth root of the strongest primary."""
    strongest = np.linspace(0.0, 1.0, _STEPS)[1:] ** 4 * PEAK
    factor = _bt2390(strongest) / strongest * (PEAK / WHITE)
    return np.concatenate((factor[:1], factor)).astype(np.float32)


def _bt2390(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Electrical-electrical transfer function of BT.2390 from `PEAK` to `WHITE`, in cd/m²; black stays black."""
    top = float(_to_pq(np.array(PEAK)))
    code = _to_pq(light) / top
    most = float(_to_pq(np.array(WHITE))) / top
    knee = 1.5 * most - 0.5
    t = (code - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return _from_pq(np.where(code < knee, code, spline) * top)


@lru_cache(maxsize=1)
def _gamma() -> NDArray[np.uint8]:
    """8-bit code of linear light, by its square root."""
    return np.round(np.linspace(0.0, 1.0, _STEPS) ** (2 / 2.4) * 255).astype(np.uint8)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _from_pq(code: NDArray[np.float64]) -> NDArray[np.float64]:
    root = code ** (1 / _M2)
    return 10000.0 * (np.maximum(root - _C1, 0.0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    share = (light / 10000.0) ** _M1
    return ((_C1 + _C2 * share) / (1 + _C3 * share)) ** _M2
