"""What all sections of the config are made of."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

StageName = Literal["stage1", "stage2", "stage3"]
Scored = Literal["start", "stage1", "stage2", "stage3"]
Checked = Literal["psnr", "ssim", "lpips"]
"""Metrics that other programs can score again."""
Metric = Literal["psnr", "ssim", "lpips", "lpips_vgg", "flolpips", "flicker", "vmaf", "warping_error", "tof"]
OPTIONAL_METRICS: tuple[Metric, ...] = ("lpips_vgg", "vmaf", "warping_error", "tof")
"""Metrics whose columns are there only where they were asked for."""
FLOW_METRICS: tuple[Metric, ...] = ("flolpips", "warping_error", "tof")
"""Metrics that optical flow is part of: numbers with different flows cannot be compared."""
ProtocolName = Literal["open-sora-report", "wf-vae", "vidtok-mcl-jcv", "davis", "tokenbench"]
Optimizer = Literal["adamw", "muon"]
AdversarialLoss = Literal["hinge", "non_saturating"]
"""What a discriminator and the net that it judges are trained by."""
STAGES: tuple[StageName, ...] = ("stage1", "stage2", "stage3")
START: Literal["start"] = "start"
"""The weights that nothing was trained of yet: `model.pretrained`, or a fresh net."""
SCORED: tuple[Scored, ...] = (START, *STAGES)
"""Weights that can be reconstructed with and scored, in their order."""

MAX = 1_000_000_000
"""Largest count and number: beyond is a typo, which would overflow somewhere far from the config."""
VMAF_MIN_SIDE = 192
"""Smallest side of frames that VMAF is taken of, in pixels: it was made for large ones, and its coarsest scale sees a
sixteenth of them."""
MIN = 1e-12
"""Smallest number that must not be zero."""
RESERVED = frozenset({"benchmarks", "latents", "prepared", "settings"})
"""Folders of `results` that no run may be named after."""
TEXT_LENGTH = 4096
PACKAGE_FILES = "files.json"
"""File in the folder of a fetched package: name -> sha256 of every file taken out of it."""
QUANTISED = re.compile(r"rec_q(\d+)")
"""Variant that is decoded of latents quantised to so many bits per number."""
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""A model on a hub, OWNER/NAME."""
_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that are no part of a line: control characters, halves of surrogates, line ends."""


def not_bool(value: Any) -> Any:
    """Refuse true and false, which would otherwise count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def is_plain(text: str) -> bool:
    """Tell whether a text is one line without control characters."""
    return not any(unicodedata.category(character) in _HIDDEN for character in text)


def address_scheme(text: str) -> str:
    """Return the scheme of an address (`https`); empty where the text is no address."""
    match = _ADDRESS.match(text.strip())
    return match.group(1).lower() if match else ""


def _path(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty path; name a file or folder, or leave the key out")
    if not is_plain(value):
        raise ValueError("a path with line ends or control characters; rename the file or folder")
    if set("{}") & set(value):
        raise ValueError("a path with braces, which the workflow takes for wildcards; rename the file or folder")
    if value.startswith("-"):
        raise ValueError("a path that begins with a dash; write ./ before it")
    return os.path.expanduser(value)  # noqa: PTH111 (a Path would drop `./` and a trailing slash)


def _local(value: str) -> str:
    if address_scheme(value):
        raise ValueError("an address; download it and give the local path")
    return _path(value)


def _prose(value: str) -> str:
    text = " ".join(value.split())
    if not text or not is_plain(text):
        raise ValueError("give text without control characters")
    return text


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed twice; leave one out")
    return values


def check_groups(groups: int, widths: Iterable[int], name: str) -> None:
    """Check that each width can be normalised in so many groups of channels.

    Raises:
        ValueError: if one cannot.
    """
    wrong = next((width for width in widths if width % groups), None)
    if wrong is not None:
        raise ValueError(f"norm_num_groups {groups} does not divide {wrong} channels ({name})")


Share = Annotated[float, BeforeValidator(not_bool), Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(not_bool), Field(ge=0, le=MAX, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(not_bool), Field(ge=MIN, le=MAX, allow_inf_nan=False)]
Real = Annotated[float, BeforeValidator(not_bool), Field(ge=-MAX, le=MAX, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=MAX)]
Natural = Annotated[int, BeforeValidator(not_bool), Field(ge=0, le=MAX)]
Jobs = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=10_000)]
Width = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=8192)]
Depth = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=64)]
Side = Annotated[int, BeforeValidator(not_bool), Field(ge=8, le=16_384)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_:~!-]*$", max_length=128)]
"""Name or version of a package: nothing that a package manager could take for an option or an address."""
PathText = Annotated[str, Field(max_length=TEXT_LENGTH), AfterValidator(_path)]
"""A path, or an address where the setting takes one."""
LocalPath = Annotated[str, Field(max_length=TEXT_LENGTH), AfterValidator(_local)]
ColumnName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=256)]
Prose = Annotated[str, Field(max_length=TEXT_LENGTH), AfterValidator(_prose)]
Unique = AfterValidator(_unique)


class Settings(BaseModel):
    """Base of all sections: immutable, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)
