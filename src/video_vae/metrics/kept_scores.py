"""Keep the scores of each clip until all are there, so that a run that was cut off goes on with the rest.

A file is named by all that its scores depend on: metrics, weights, code, sizes and times of the clip's files. Whatever
changes has another name, and is scored again.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from video_vae.data.frame_folders import frame_files
from video_vae.data.video import MediaError
from video_vae.errors import UserError
from video_vae.files import atomic_path, remove_written
from video_vae.metrics.pairing import Pair
from video_vae.metrics.reading import Source, View, open_source
from video_vae.metrics.scoring import ClipScores, Refused
from video_vae.metrics.tools import Tools
from video_vae.provenance import code_record, fingerprint, package_versions

FOLDER = ".kept_scores"
_SHAPE = "shape"
"""Name, in a file, of a variant's height, width, and frames of the original and of the variant."""


class KeptScores:
    """Scores of clips in a folder; without one nothing is kept."""

    def __init__(self, folder: Path | None, view: View, tools: Tools, batch_size: int) -> None:
        self._folder = None if folder is None else folder / FOLDER
        self._conditions = fingerprint(
            {
                "metrics": tools.metrics,
                "view": vars(view),
                "lpips": {name: net.sha256 for name, net in tools.nets.items()},
                "flow": [getattr(tools.flow, name, None) for name in ("name", "sha256")],
                "device": tools.device.type,
                "batch_size": batch_size,
                "packages": package_versions(),
                "code": code_record()["sources"],
            }
        )

    def read(self, pair: Pair, real: Source) -> list[ClipScores | Refused]:
        """Return what an earlier run scored of a clip, from the same files in the same way; nothing where none did."""
        try:
            place = self._place(pair)
            if place is None or not place.is_file():
                return []
            with np.load(place, allow_pickle=False) as kept:
                return [self._clip(pair, real, index, kept) for index in range(len(pair.generated))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, MediaError, UserError):
            return []  # it is scored again

    def keep(self, pair: Pair, results: Sequence[ClipScores | Refused]) -> Sequence[ClipScores | Refused]:
        """Keep the scores of a clip, unless a variant was refused or the disk takes no file; return them."""
        with suppress(OSError, MediaError):
            place = self._place(pair)
            scores = [clip for clip in results if isinstance(clip, ClipScores)]
            if place is not None and len(scores) == len(pair.generated):
                arrays: dict[str, Any] = {}
                for index, clip in enumerate(scores):
                    arrays |= {f"{index}/{name}": values for name, values in clip.values.items()}
                    arrays[f"{index}/{_SHAPE}"] = np.array([clip.height, clip.width, *clip.lengths])
                with atomic_path(place) as aside, aside.open("wb") as stream:
                    np.savez(stream, **arrays)
        return results

    def remove(self) -> None:
        """Remove what was kept, once all is written."""
        if self._folder is not None and self._folder.is_dir():
            remove_written(self._folder, [file.name for file in self._folder.glob("????????????????.npz")])

    def _place(self, pair: Pair) -> Path | None:
        if self._folder is None:
            return None
        files = {variant: list(_identity(path)) for variant, path in {"": pair.real, **pair.generated}.items()}
        return self._folder / f"{fingerprint([self._conditions, pair.name, files])}.npz"

    @staticmethod
    def _clip(pair: Pair, real: Source, index: int, kept: Any) -> ClipScores:
        variant, path = list(pair.generated.items())[index]
        height, width, *lengths = kept[f"{index}/{_SHAPE}"].tolist()
        names = [name.partition("/")[2] for name in kept.files if name.startswith(f"{index}/")]
        return ClipScores(
            variant=variant,
            name=pair.name,
            clip_id=pair.clip_id,
            window=pair.window,
            height=height,
            width=width,
            values={name: kept[f"{index}/{name}"] for name in names if name != _SHAPE},
            lengths=(lengths[0], lengths[1]),
            real=real,
            generated=open_source(path),
        )


def _identity(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name a clip's file, or its frames: path, size, time of the last change."""
    for file in frame_files(path) if path.is_dir() else [path]:
        found = file.stat()
        yield str(file), found.st_size, found.st_mtime_ns
