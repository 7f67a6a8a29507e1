"""Where a clip's files lie, what was made of it, and whether that can be kept.

Each finished clip leaves a record in NAME/records. A clip is made again unless its record has the fingerprint of
everything that shapes it (weights, settings, source) and all its files are there, so neither a half-written clip nor
one of other weights is ever taken for a good one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_vae.data.storage import LOSSLESS_SUFFIX, PREVIEW_SUFFIX, lossless_info
from video_vae.data.table import write_rows
from video_vae.data.windows import is_window
from video_vae.errors import UserError
from video_vae.foreign import PREVIEW, STORED, raise_if_foreign, traits_of
from video_vae.provenance import write_json_atomic

FAILED_COLUMNS = ("clip_id", "path", "reason")
_RECORD_TRAITS = ("fingerprint", "row", "bytes")


@dataclass(frozen=True, kw_only=True)
class OutputPaths:
    """The files of one run's clips."""

    name: Path
    """What `--save-dir` names: NAME_ori, NAME_preview and so on lie beside it, records in it."""
    variants: tuple[str, ...]
    """`ori` first."""
    previews: bool

    def clip(self, clip_id: str, variant: str) -> Path:
        """Name the lossless file of a variant."""
        return self._beside(variant) / f"{clip_id}{LOSSLESS_SUFFIX}"

    def preview(self, clip_id: str, variant: str) -> Path:
        """Name the preview of a variant."""
        return self._beside("preview") / f"{clip_id}_{variant}{PREVIEW_SUFFIX}"

    def previewed(self, clip_id: str) -> bool:
        """Tell whether a clip has previews; people watch a clip's first window."""
        return self.previews and not is_window(clip_id)

    def record(self, clip_id: str) -> Path:
        """Name the record of a clip."""
        return self.name / "records" / f"{clip_id}.json"

    def files(self, clip_id: str) -> list[Path]:
        """Name all files of a clip but its record."""
        previews = [self.preview(clip_id, variant) for variant in self.variants] if self.previewed(clip_id) else []
        return [self.clip(clip_id, variant) for variant in self.variants] + previews

    def kept(self, clip_id: str, fingerprint: str) -> dict[str, str] | None:
        """Return the index row of a clip that is complete and up to date, otherwise None."""
        try:
            record = json.loads(self.record(clip_id).read_text(encoding="utf-8"))
            row: dict[str, str] = record["row"]
            sizes: dict[str, int] = record["bytes"]
            if record["fingerprint"] != fingerprint:
                return None
            if any(file.stat().st_size != sizes[_key(file)] for file in self.files(clip_id)):
                return None
            hashes = {variant: lossless_info(self.clip(clip_id, variant)).sha256 for variant in self.variants}
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return None
        return row if all(row[f"{variant}_sha256"] == found for variant, found in hashes.items()) else None

    def keep(
        self, clip_id: str, fingerprint: str, row: Mapping[str, str], rates: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Record a clip whose files are all in place, and what was measured of its rates."""
        sizes = {_key(file): file.stat().st_size for file in self.files(clip_id)}
        measured = {"rates": list(rates)} if rates else {}
        write_json_atomic(
            self.record(clip_id), {"fingerprint": fingerprint, "row": dict(row), "bytes": sizes} | measured
        )

    def rates(self, clip_id: str) -> list[dict[str, Any]]:
        """Return what was measured of the rates of a clip that is recorded."""
        found: list[dict[str, Any]] = json.loads(self.record(clip_id).read_text(encoding="utf-8")).get("rates", [])
        return found

    def check_places(self, clip_id: str) -> None:
        """Check that no foreign files lie where a clip's files will.

        Raises:
            UserError: which names the file.
        """
        recorded = self._recorded(clip_id)
        raise_if_foreign(self.record(clip_id), _RECORD_TRAITS)
        for file in self.files(clip_id):
            if file.exists() and file not in recorded:
                raise_if_foreign(file, [STORED if file.suffix == LOSSLESS_SUFFIX else PREVIEW])

    def discard(self, clip_id: str) -> None:
        """Remove a clip's record, then its files; `check_places` has seen that they are ours."""
        for file in (self.record(clip_id), *self.files(clip_id)):
            file.unlink(missing_ok=True)

    def _recorded(self, clip_id: str) -> list[Path]:
        """List a clip's files that are as its record says."""
        try:
            sizes = json.loads(self.record(clip_id).read_text(encoding="utf-8"))["bytes"]
            return [file for file in self.files(clip_id) if file.is_file() and file.stat().st_size == sizes[_key(file)]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def discard_others(self, clip_ids: Iterable[str]) -> list[str]:
        """Remove what earlier runs made of clips other than these; return their names."""
        wanted = set(clip_ids)
        files = (file for file in self.record("*").parent.glob("*.json") if file.stem not in wanted)
        others = sorted(file.stem for file in files if traits_of(file).issuperset(_RECORD_TRAITS))
        for clip_id in others:
            for file in (*self._recorded(clip_id), self.record(clip_id)):
                file.unlink(missing_ok=True)
        return others

    def _beside(self, suffix: str) -> Path:
        return self.name.with_name(f"{self.name.name}_{suffix}")


def _key(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def index_columns(variants: Sequence[str]) -> tuple[str, ...]:
    """List the columns of index.csv; the hashes are of the pixels, uint8 (T,H,W,3)."""
    hashes = (f"{variant}_sha256" for variant in variants)
    return ("clip_id", "frames", "height", "width", "fps", "source", "start_frame", *hashes)


def write_index(path: Path, variants: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write index.csv: one row per reconstructed clip."""
    columns = index_columns(variants)
    write_rows(path, columns, ([str(row[name]) for name in columns] for row in rows))


def write_failed(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write failed.csv: one row per clip that could not be reconstructed, and why."""
    write_rows(path, FAILED_COLUMNS, ([row[name] for name in FAILED_COLUMNS] for row in rows))
