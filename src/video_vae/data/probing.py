"""Look into many files at once, in confined processes: a decoder that hangs or crashes costs one file, not the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from video_vae.data.decord_reader import reads_exactly
from video_vae.data.identity import content_sha256
from video_vae.data.probed import read_probed, rewrite_probed, stamp
from video_vae.data.readers import LIMIT_SECONDS, Readers
from video_vae.data.video import MediaError, MediaInfo, probe, probe_every_frame
from video_vae.progress import progress

log = logging.getLogger(__name__)

EVERY_FRAME = 20.0
"""Times as long as `LIMIT_SECONDS` that a file may take to decode every frame."""
CURE = "free some memory, or see by `video-vae doctor` what this installation lacks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a file is and the sha256 of its content, or why it cannot be used."""

    info: MediaInfo | None = None
    sha256: str = ""
    error: MediaError | None = None


def probe_files(
    paths: Sequence[str],
    workers: int,
    limit: float = LIMIT_SECONDS,
    *,
    every_frame: bool = False,
    decord: bool = False,
    on_outcome: Callable[[str, Outcome], object] | None = None,
) -> dict[str, Outcome]:
    """Probe and hash files in parallel, with a progress bar; every path gets an outcome, passed to `on_outcome`.

    With `every_frame` a file is only good if all of it decodes, which takes many times longer. With `decord` the
    outcome says whether decord reads it as well; where it crashes or hangs, it does not.
    """
    outcomes: dict[str, Outcome] = {}
    if not paths:
        return outcomes
    count = max(1, min(workers, len(paths)))
    seconds = limit * (EVERY_FRAME if every_frame else 1.0)
    with (
        progress(total=len(paths), desc="probe", unit="files") as bar,
        ThreadPool(count) as pool,
        closing(Readers(count, seconds, tries=1, cure=CURE)) as readers,
    ):
        for path, outcome in pool.imap_unordered(partial(_outcome, readers, every_frame, decord), paths):
            outcomes[path] = outcome
            if on_outcome is not None:
                on_outcome(path, outcome)
            bar.update()
    return outcomes


def probe_remembering(
    paths: Sequence[str], workers: int, journal: Path | None, *, every_frame: bool = False, decord: bool = False
) -> dict[str, Outcome]:
    """Probe the files that are not known as they are now; every path gets an outcome, and the usable are remembered.

    What could not be used is looked into again each time: the disk may have failed for a moment.
    """
    if journal is None:
        return probe_files(paths, workers, every_frame=every_frame, decord=decord)
    stamps = {path: stamp(path) for path in paths}
    known = {
        path: entry
        for path, entry in read_probed(journal).items()
        if stamps.get(path) == entry["stamp"] and entry["every_frame"] >= every_frame and entry["decord"] >= decord
    }
    outcomes = {path: Outcome(info=_info(entry["info"]), sha256=entry["sha256"]) for path, entry in known.items()}
    if known:
        log.info("%d of %d files are as they were: not probed again", len(known), len(paths))
    rewrite_probed(journal, known)
    with journal.open("a", encoding="utf-8") as stream:

        def remember(path: str, outcome: Outcome) -> None:
            """Write a file's line at once, so that a killed process loses none."""
            if outcome.info is not None and stamps[path] is not None:
                entry: dict[str, Any] = {"path": path, "stamp": stamps[path]}
                entry |= {"every_frame": every_frame, "decord": decord}
                entry |= {"sha256": outcome.sha256, "info": asdict(outcome.info)}
                stream.write(json.dumps(entry, separators=(",", ":")) + "\n")
                stream.flush()

        missing = [path for path in paths if path not in known]
        return outcomes | probe_files(missing, workers, every_frame=every_frame, decord=decord, on_outcome=remember)


@dataclass(frozen=True)
class _Look:
    """What a file is and the sha256 of its content."""

    path: str
    every_frame: bool

    def fetch(self) -> dict[str, Any]:
        """Look into the file, in a worker; MediaError where it cannot be used."""
        info = probe_every_frame(self.path) if self.every_frame else probe(self.path)
        return {"info": asdict(info), "sha256": content_sha256(self.path)}


@dataclass(frozen=True)
class _DecordTrial:
    """Whether decord reads a file, which is known to be good, as well."""

    path: str

    def fetch(self) -> bool:
        """Compare decord's frames with PyAV's, in a worker."""
        return reads_exactly(self.path)


def _outcome(readers: Readers, every_frame: bool, decord: bool, path: str) -> tuple[str, Outcome]:
    """Look into a file, and try decord on it where that may read it."""
    try:
        seen = readers.fetch(_Look(path, every_frame))
    except MediaError as error:
        return path, Outcome(error=error)
    info = _info(seen["info"])
    if decord and info.reader == "pyav" and not info.handling and _suits_decord(readers, path):
        info = replace(info, reader="decord")
    return path, Outcome(info=info, sha256=seen["sha256"])


def _suits_decord(readers: Readers, path: str) -> bool:
    try:
        return readers.fetch(_DecordTrial(path))
    except MediaError:  # whatever it does, PyAV reads the file
        return False


def _info(values: Any) -> MediaInfo:
    return MediaInfo(**{**values, "times": tuple(values["times"]), "handling": tuple(values["handling"])})
