"""Look into many files at once, in processes of their own: a decoder that hangs or crashes costs one file, not the run.

``python -m video_vae.data.probing`` is the worker: a line of JSON in (what to do and the path), a JSON object per line
out. It has no more memory and time than a file may need, and can write nothing.
"""

from __future__ import annotations

import json
import logging
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from video_vae.data.decord_reader import reads_exactly
from video_vae.data.identity import content_sha256
from video_vae.data.probed import read_probed, rewrite_probed, stamp
from video_vae.data.table import Reader
from video_vae.data.video import MediaError, MediaInfo, probe, probe_every_frame
from video_vae.progress import progress

log = logging.getLogger(__name__)

LIMIT_SECONDS = 60.0
"""Time that a file may take, plus a second for every `LIMIT_BYTES`."""
LIMIT_BYTES = 20e6
EVERY_FRAME = 20.0
"""Times as long as that it may take to decode every frame."""
LIMIT_MEMORY = 4 << 30
"""Address space of a worker, in bytes: a file that needs more is rejected, and takes no memory from others."""


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
    pending = deque(paths)
    outcomes: dict[str, Outcome] = {}
    team = [_Worker(limit, every_frame, decord) for _ in range(max(1, min(workers, len(pending))))] if pending else []
    with progress(total=len(pending), desc="probe", unit="files") as bar, selectors.DefaultSelector() as selector:
        try:
            while len(outcomes) < len(paths):
                for worker in team:
                    if worker.path is None and pending:
                        worker.start(pending.popleft(), selector)
                ready = {key.fd for key, _ in selector.select(timeout=0.5)}
                for worker in team:
                    outcome = worker.poll(ready, selector)
                    if outcome is not None:
                        path = worker.finish()
                        outcomes[path] = outcome
                        if on_outcome is not None:
                            on_outcome(path, outcome)
                        bar.update()
        finally:
            for worker in team:
                worker.stop()
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


class _Worker:
    """A process that looks into one file at a time, started again after a crash or a hang."""

    def __init__(self, limit: float, every_frame: bool, decord: bool) -> None:
        self.limit = limit * (EVERY_FRAME if every_frame else 1.0)
        self._every_frame = every_frame
        self._decord = decord
        self._usable: Outcome | None = None  # of the file that decord is tried on
        self.path: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = 0.0

    def start(self, path: str, selector: selectors.BaseSelector) -> None:
        """Hand over a file, to a process started again where there is none, and set its deadline."""
        if self._process is None:
            command = [sys.executable, "-m", "video_vae.data.probing"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            selector.register(_pipe(self._process.stdout), selectors.EVENT_READ)
        self.path = path
        self._ask(self._process, path, "look at every frame" if self._every_frame else "look")

    def _ask(self, process: subprocess.Popen[bytes], path: str, what: str) -> None:
        self._deadline = time.monotonic() + self.limit * (1 + _size(path) / LIMIT_BYTES / LIMIT_SECONDS)
        try:
            pipe = _pipe(process.stdin)
            pipe.write(json.dumps([what, path]).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:  # it died; reading its answer will tell
            pass

    def poll(self, ready: set[int], selector: selectors.BaseSelector) -> Outcome | None:
        """Return the outcome if there is one by now; `ready` holds the pipes with something to read."""
        if self.path is None or self._process is None:
            return None
        output = _pipe(self._process.stdout)
        answered = output.fileno() in ready
        line = output.readline() if answered else b""
        if line.endswith(b"\n"):
            return self._heard(self._process, self.path, json.loads(line))
        if not answered and time.monotonic() < self._deadline:
            return None
        detail = f"no answer from the decoder within {self.limit:.0f} s"
        if answered:
            code = self._process.wait()
            detail = f"the decoder crashed ({signal.Signals(-code).name if code < 0 else f'status {code}'})"
        selector.unregister(output)
        self.stop()
        return self._usable or Outcome(error=MediaError("unreadable", detail))

    def _heard(self, process: subprocess.Popen[bytes], path: str, values: dict[str, Any]) -> Outcome | None:
        """Return the outcome, or None where decord is to be tried first."""
        if self._usable is not None and self._usable.info is not None:
            reader: Reader = "decord" if values["exact"] else "pyav"
            return replace(self._usable, info=replace(self._usable.info, reader=reader))
        outcome = _outcome(values)
        if not self._decord or outcome.info is None or outcome.info.reader != "pyav" or outcome.info.handling:
            return outcome
        self._usable = outcome
        self._ask(process, path, "try decord")
        return None

    def finish(self) -> str:
        """Forget the file that was looked into, and return its path."""
        path, self.path, self._usable = self.path, None, None
        return path or ""

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker was started without pipes")
    return stream


def _size(path: str) -> int:
    seen = stamp(path)
    return 0 if seen is None else seen[0]


def _outcome(values: dict[str, object]) -> Outcome:
    if "reason" in values:
        return Outcome(error=MediaError(values["reason"], str(values["detail"])))  # type: ignore[arg-type]
    return Outcome(info=_info(values["info"]), sha256=str(values["sha256"]))


def _info(values: Any) -> MediaInfo:
    return MediaInfo(**{**values, "times": tuple(values["times"]), "handling": tuple(values["handling"])})


def _answer(what: str, path: str) -> dict[str, object]:
    if what == "try decord":
        return {"exact": _reads_exactly(path)}
    return _look(path, every_frame=what == "look at every frame")


def _reads_exactly(path: str) -> bool:
    """Tell whether decord reads a file that is known to be good as well."""
    try:
        return reads_exactly(path)
    except Exception:  # whatever it raises, PyAV reads the file
        return False


def _look(path: str, *, every_frame: bool) -> dict[str, object]:
    try:
        info = probe_every_frame(path) if every_frame else probe(path)
        return {"info": asdict(info), "sha256": content_sha256(path)}
    except MediaError as error:
        return {"reason": error.reason, "detail": error.detail}
    except MemoryError:
        return {"reason": "unreadable", "detail": f"decoding it takes more than {LIMIT_MEMORY >> 30} GiB of memory"}
    except Exception as error:  # whatever a decoder raises on a broken file, the file is at fault
        return {"reason": "unreadable", "detail": f"{type(error).__name__}: {error}"}


def _confine() -> None:
    """Limit what a decoder can take or leave behind: no more memory than a frame needs, no written file, no core."""
    for kind, most in ((resource.RLIMIT_AS, LIMIT_MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # systems that know no such limit, or set a lower one
            resource.setrlimit(kind, (most, most))


def serve() -> None:
    """Answer paths on stdin until it closes."""
    _confine()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(*json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
