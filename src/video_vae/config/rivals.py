"""The section of the config on what the video VAE is compared with: another spatial VAE, somebody's videos, a codec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import model_validator

from video_vae.config.model import Spatial
from video_vae.config.types import QUANTISED, SCORED, LocalPath, Settings, Sha256

Codec = Literal["x264", "x265"]
CODEC_BITS = 8
"""Bits per number of the latents that a codec gets for a window."""
CODEC_MIN_SIDE: dict[Codec, int] = {"x264": 8, "x265": 64}
"""Smallest side of frames for a codec, in pixels: x265 writes beyond its memory where they are smaller."""
COMPARE = "compare"
"""Folder of a run's rivals in the results, and their stage in metrics.csv."""
TAKEN = frozenset(
    {*SCORED, "ori", "rec", "spatial", "mean", "repeat", "real", "preview", "baseline", "baselines", COMPARE}
)
"""Names of stages, variants and folders, which no rival may have."""


class Rival(Settings):
    """One rival: `spatial`, `videos` or `codec`."""

    spatial: LocalPath | None = None
    """Hub id, local folder or weights file of another AutoencoderKL, which each frame goes through by itself."""
    subfolder: LocalPath | None = None
    """Folder inside the hub repository or local folder of `spatial`."""
    sha256: Sha256 | None = None
    """Hash that the weights of `spatial` must have, as `spatial.sha256`."""
    videos: LocalPath | None = None
    """Folder of somebody's reconstructions: a video or a folder of images for each held-out window, named by its id."""

    codec: Codec | None = None
    """Encoder of PyAV, a reference: codes each window in no more bits than its latents take at 8 bits per number."""

    @model_validator(mode="after")
    def _one_kind(self) -> Rival:
        kinds = {"spatial": self.spatial, "videos": self.videos, "codec": self.codec}
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            cure = "name one of spatial (another spatial VAE), videos (a folder) and codec (x264, x265)"
            raise ValueError(f"{' and '.join(given) or 'nothing'} given; {cure}")
        if self.spatial is None and (self.subfolder or self.sha256):
            raise ValueError(f"subfolder and sha256 go with spatial, not with {given[0]}; leave them out")
        return self

    @property
    def net(self) -> Spatial | None:
        """Return the other spatial VAE as a section of its own; None where there is none."""
        if self.spatial is None:
            return None
        return Spatial(pretrained=self.spatial, subfolder=self.subfolder, sha256=self.sha256)


def check_sizes(rivals: Mapping[str, Rival], resolution: tuple[int, int]) -> None:
    """See that the frames are large enough for the codecs.

    Raises:
        ValueError: if they are not.
    """
    for name, rival in rivals.items():
        if rival.codec is not None and min(resolution) < (side := CODEC_MIN_SIDE[rival.codec]):
            height, width = resolution
            raise ValueError(
                f"compare.{name}.codec: {rival.codec} needs frames of at least {side}x{side} pixels, and "
                f"data.resolution is {height}x{width}; leave the rival out or take larger frames"
            )


def check_names(rivals: Iterable[str], experiments: Iterable[str]) -> None:
    """See that no rival is called as a stage, a variant or a run.

    Raises:
        ValueError: if one is.
    """
    experiments = set(experiments)
    for name in rivals:
        if name.lower() in TAKEN or QUANTISED.fullmatch(name.lower()):
            raise ValueError(f"compare: {name!r} is the name of a stage or variant; give the rival another one")
        if name in experiments:
            raise ValueError(f"compare: {name!r} is the name of a run too; give the rival another one")
