"""The section of the config on what the video VAE is compared with: another spatial VAE, or somebody's videos."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import model_validator

from video_vae.config.model import Spatial
from video_vae.config.types import SCORED, LocalPath, Settings, Sha256

COMPARE = "compare"
"""Folder of a run's rivals in the results, and their stage in metrics.csv."""
TAKEN = frozenset(
    {*SCORED, "ori", "rec", "spatial", "mean", "repeat", "real", "preview", "baseline", "baselines", COMPARE}
)
"""Names of stages, variants and folders, which no rival may have."""


class Rival(Settings):
    """One rival: either `spatial` or `videos`."""

    spatial: LocalPath | None = None
    """Hub id, local folder or weights file of another AutoencoderKL, which each frame goes through by itself."""
    subfolder: LocalPath | None = None
    """Folder inside the hub repository or local folder of `spatial`."""
    sha256: Sha256 | None = None
    """Hash that the weights of `spatial` must have, as `spatial.sha256`."""
    videos: LocalPath | None = None
    """Folder of somebody's reconstructions: a video or a folder of images for each held-out window, named by its id."""

    @model_validator(mode="after")
    def _one_kind(self) -> Rival:
        if (self.spatial is None) == (self.videos is None):
            given = "nothing" if self.spatial is None else "both"
            raise ValueError(f"{given} given; name either spatial (another spatial VAE) or videos (a folder)")
        if self.videos is not None and (self.subfolder or self.sha256):
            raise ValueError("subfolder and sha256 go with spatial, not with videos; leave them out")
        return self

    @property
    def net(self) -> Spatial | None:
        """Return the other spatial VAE as a section of its own; None where videos are given."""
        if self.spatial is None:
            return None
        return Spatial(pretrained=self.spatial, subfolder=self.subfolder, sha256=self.sha256)


def check_names(rivals: Iterable[str], experiments: Iterable[str]) -> None:
    """See that no rival is called as a stage, a variant or a run.

    Raises:
        ValueError: if one is.
    """
    experiments = set(experiments)
    for name in rivals:
        if name.lower() in TAKEN:
            raise ValueError(f"compare: {name!r} is the name of a stage or variant; give the rival another one")
        if name in experiments:
            raise ValueError(f"compare: {name!r} is the name of a run too; give the rival another one")
