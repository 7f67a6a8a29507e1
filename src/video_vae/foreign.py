"""Tell files that this project wrote from those of others, so that no command replaces or deletes foreign files.

A file is of the same kind as another one if they share most of what programs look for in them: the columns of a table,
the keys of a JSON object, the texts that were saved with weights, the name of this project in a page, figure or video.
Whatever else lies where something is to be written stays. Imports nothing heavy.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from video_vae.errors import UserError

CHECKSUM = "_weights_sha256"
"""Entry of a model's config.json: hash of the weights beside it."""
ONNX_PRODUCER = "video-vae"
"""What an ONNX file says wrote it."""
ONNX_DATA = ".data"
"""What the name of the weights beside an ONNX file ends with."""
RECORD_TRAITS = frozenset({"command", "code", "inputs", "outputs"})
"""What every run.json has."""
_HEAD = 1 << 20
"""Bytes of a file that are looked at: headers and tags lie in them."""
STORED, PREVIEW = '"content_sha256":', "written by video-vae"
"""Traits of clips: as they are stored for measuring, and for people."""
PREPARED = "video-vae prepared clips"
"""Trait of a shard of prepared clips."""
PANS = "video-vae pans"
"""Trait of a shard of clips that were made of photographs."""
EXECUTED = "injected-parameters"
"""Tag of the cell that an executed notebook has and its original has not."""
PAGE = '<meta name="generator" content="video-vae'
_MARKS = (
    PAGE.encode(),
    b"<dc:title>video-vae</dc:title>",  # a figure as SVG
    b"/Creator (video-vae)",  # as PDF
    PREPARED.encode(),
    PANS.encode(),
    STORED.encode(),
    PREVIEW.encode(),
    b'"_class_name": "VideoAutoencoderKL"',  # an exported state dict
    b"# Generated from requirements.lock by `make config`",  # an image's description
)
_SHA256 = re.compile("[0-9a-f]{64}")


def raise_if_foreign(path: Path, traits: Collection[str]) -> None:
    """Refuse to replace a file that is not of the kind that is to be written; nothing there, or an empty file, is fine.

    Args:
        path: where it is to be written.
        traits: what `traits_of` says of the new file, or what every such file has.

    Raises:
        UserError: in one line, which names the file.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, and a file is to be written; name a file")
    if not path.exists() or not (path.is_file() and path.stat().st_size):
        return
    found, wanted = traits_of(path), frozenset(traits)
    if not wanted or (2 * len(found & wanted) < len(found | wanted) and not wanted <= found):
        raise UserError(f"{path} is there and was not written by this command; move it away, or name another output")


def check_places(places: Mapping[Path, Collection[str]]) -> None:
    """Check before a long job that no foreign files lie where its outputs will: path -> traits, as above.

    Raises:
        UserError: which names the file.
    """
    for path, traits in places.items():
        raise_if_foreign(path, traits)


def traits_of(path: Path) -> frozenset[str]:
    """Return what tells the kind of a file; empty where nothing does."""
    try:
        return frozenset(_READERS.get(path.suffix.lower(), _marks)(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, zipfile.BadZipFile):
        return frozenset()


def _json(path: Path) -> Iterable[str]:
    return _keys(json.loads(path.read_text(encoding="utf-8")))


def _keys(values: Any) -> Iterable[str]:
    """Name the keys of a JSON object; a model's config is known by its seal, a list of hashes by its values."""
    if CHECKSUM in values:
        return [CHECKSUM]
    hashes = [isinstance(value, str) and _SHA256.fullmatch(value) is not None for value in values.values()]
    return ["name: sha256"] if all(hashes) else map(str, values)


def _lines(path: Path) -> Iterable[str]:
    first = _first_line(path)
    try:
        return _keys(json.loads(first))
    except (ValueError, TypeError, AttributeError):
        return [first.rstrip("0123456789")]  # a format without its version


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.readline(_HEAD).strip()


def _table(path: Path) -> Iterable[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream))


def _text(path: Path) -> Iterable[str]:
    first = _first_line(path)
    return [first] if first else []


def _parquet(path: Path) -> Iterable[str]:
    from pyarrow import parquet

    return [str(name) for name in parquet.read_schema(path).names]


def _safetensors(path: Path) -> Iterable[str]:
    """Name the texts beside the tensors; a model's weights, which have none, are known by the seal of its config."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if not 0 < size < 100 * _HEAD:
            return []
        texts = json.loads(stream.read(size)).get("__metadata__", {})
    own = [name for name in texts if name != "format"]
    return own or ([CHECKSUM] if _is_sealed(path) else [])


def _is_sealed(weights: Path) -> bool:
    try:
        expected = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))[CHECKSUM]
        with weights.open("rb") as stream:
            return bool(hashlib.file_digest(stream, "sha256").hexdigest() == expected)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _onnx(path: Path) -> Iterable[str]:
    """Look for the program that wrote it, which stands in front of the graph (field 2, length, text)."""
    with path.open("rb") as stream:
        head = stream.read(64)
    mark = bytes((0x12, len(ONNX_PRODUCER))) + ONNX_PRODUCER.encode()
    return [ONNX_PRODUCER] if mark in head else []


def _onnx_data(path: Path) -> Iterable[str]:
    """Know weights beside an ONNX file of this project by their hash, which that file has."""
    model = path.with_suffix("")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return [f"beside {model.name}"] if _onnx(model) and digest.encode() in model.read_bytes() else []


def _marks(path: Path) -> Iterable[str]:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return [mark.decode() for mark in _MARKS if mark in head]


def _notebook(path: Path) -> Iterable[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {tag for cell in cells for tag in cell["metadata"].get("tags", ())}


_READERS: dict[str, Callable[[Path], Iterable[str]]] = {
    ".json": _json,
    ".jsonl": _lines,
    ".csv": _table,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".ipynb": _notebook,
    ".onnx": _onnx,
    ONNX_DATA: _onnx_data,
    **dict.fromkeys((".md", ".yaml", ".yml", ".txt", ".tex", ".def", ".sh"), _text),
}
