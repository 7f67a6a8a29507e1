"""What lists of clips usually call their columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from video_vae.data.rows import KEY


def normal(name: str) -> str:
    """Write a column's name so that spelling does not matter: `Video Path`, `video_path` and `videoPath` are one."""
    return re.sub(r"[^0-9a-z]+", "", name.lower())


_FILES = """
    path videopath filepath filename file video videos videofile videofilename videofilepath videoname files fname
    localpath localvideopath relpath relativepath fullpath abspath absolutepath clippath clipfile clipfilename mediapath
    media mediafile targetpath mp4 mp4path imagepath imagefile image img imgpath framesdir framedir framespath
    framesfolder framefolder clip
    videoid ytid youtubeid vid videouid videokey
"""
_SPANS = """
    timestamp timestamps span spans timespan timespans interval intervals timerange timeinterval timewindow
    cliptimestamp cliptimestamps scenetimestamps scenelist times segment segments scene scenes shot shots clip clips
"""
USUAL: Mapping[str, tuple[str, ...]] = {
    "path": (*_FILES.split(), normal(KEY)),
    "folder": ("pagedir",),
    "text": ("text", "caption", "captions", "cap", "prompt", "description", "sentence", "sentences", "name"),
    "clip_id": ("clipid",),
    "split": ("split",),
    "fps": ("fps", "framerate"),
    "timestamp": tuple(_SPANS.split()),
    "frame_range": ("cut", "framerange", "frameranges", "framespan", "framespans", "framesegment", "framesegments"),
    "num_frames": ("numframes", "nframes", "framecount"),
    "duration": ("duration", "durationsec", "durationseconds"),
}
"""What a column is called, by its role, as `normal` writes it; the first of them that is there is taken."""
_BOUNDS = ("start", "end", "starttime", "endtime", "startframe", "endframe", "starttimestamp", "endtimestamp")
NEAR = 0.8
"""Likeness (of difflib, 0 to 1) from which on a name counts as a typo of another."""
_QUIET = frozenset({"aspectratio", "frame", "frames", "height", "id", "kind", "resolution", "seconds", "step", "width"})
_QUIET |= frozenset({*USUAL["num_frames"], *USUAL["duration"], *USUAL["fps"]})
"""Usual columns that name neither a file nor a part of it."""

_START = frozenset({"begin", "beginning", "start"})
_END = frozenset({"end", "finish", "stop"})
_RANKS = frozenset({"first", "last"})
"""Bounds where they stand beside `frame`."""
_PAIRED = {"from": "to", "in": "out", "onset": "offset"}
_FRAME = frozenset({"frame", "frames", "idx", "index"})
_MILLI = frozenset({"millis", "millisecond", "milliseconds", "ms", "msec"})
_FILL = frozenset({"at", "clip", "event", "no", "num", "number", "point", "pos", "position", "s", "scene", "sec"})
_FILL |= frozenset({"second", "seconds", "secs", "seg", "segment", "shot", "t", "tc", "time", "timecode", "times"})
_FILL |= frozenset({"timestamp", "timestamps", "ts", "video"})
_PARTNERS = {**_PAIRED, **{last: first for first, last in _PAIRED.items()}}
_WORDS = sorted(_START | _END | _RANKS | _FRAME | _MILLI | _FILL, key=len, reverse=True)

Role = Literal["start", "end", "start_frame", "end_frame"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a column says of the start or the end of a part: `scale` is its unit, in seconds or frames."""

    role: Role
    word: str
    scale: float = 1.0
    partner: str = ""
    """Word without which, in another column, this one counts for nothing: `from` needs `to`."""
    inclusive: bool = False
    """The frame that it names is the last of the part, not the one behind it."""


def words(name: str) -> list[str]:
    """Split a column's name into words: `Start_timestamp`, `tStart`, `starttime`; lower case, numbers left out."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [word for part in parts for word in _glued(part.lower())]


def _glued(text: str) -> list[str]:
    """Take apart what is written together, if it is made of known words alone."""
    if text in _WORDS or text in _PARTNERS:
        return [text]
    for word in _WORDS:
        if text.startswith(word):
            rest = _glued(text[len(word) :])
            if all(part in _WORDS for part in rest):
                return [word, *rest]
    return [text]


def bound(name: str) -> Bound | None:
    """Tell which bound a column holds, if its name says so in full."""
    parts = set(words(name))
    ends = parts & (_START | _END | _PARTNERS.keys() | (_RANKS if parts & _FRAME else frozenset()))
    if len(ends) != 1 or parts - ends - _FRAME - _MILLI - _FILL:
        return None
    (word,) = ends
    first = word in _START or word in _PAIRED or word == "first"
    partner = _PARTNERS.get(word, "")
    if parts & _FRAME:
        role: Role = "start_frame" if first else "end_frame"
        return Bound(role=role, word=word, partner=partner, inclusive=word == "last")
    return Bound(role="start" if first else "end", word=word, scale=1e-3 if parts & _MILLI else 1.0, partner=partner)


def sounds_like_part(name: str) -> bool:
    """Tell whether a column's name sounds as if it named a part of the file."""
    return bool(set(words(name)) & (_START | _END | {"onset", "offset", "timestamp", "timestamps", "trim"}))


def near(name: str, roles: Iterable[str]) -> str:
    """Return the role of one of `roles` whose usual name is near to a column's; empty where there is none."""
    written = normal(name)
    if not written or written in _QUIET:
        return ""
    usual = {alias: role for role in roles for alias in (*USUAL.get(role, ()), role.replace("_", ""))}
    found = difflib.get_close_matches(written, [*usual, *(_BOUNDS if "start" in roles else ())], n=1, cutoff=NEAR)
    return usual.get(found[0], "start" if "start" in found[0] else "end") if found else ""
