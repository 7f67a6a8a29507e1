"""Read weights of any origin without running what they hold, find a net's among them, and compare them with it."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from video_vae.errors import UserError

log = logging.getLogger(__name__)

NAMED = 3
"""Tensors of a kind of problem that are named; the rest is counted."""
ALONE = "save the one to take in a file of its own"
"""Cure where several sets of weights are in a file."""
TOP = "."
"""Key of the weights that lie beside other sets, in none of them."""
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that torch's wrappers (DDP, compile, FSDP, checkpointing) put in front of what they wrap."""
_CLASS = re.compile(r"GLOBAL (\S+)")


def read_tensors(paths: Path | Iterable[Path], what: str) -> dict[str, Tensor]:
    """Read .safetensors files, or what torch saved: all tensors by name, those of mappings in it by dotted names.

    Args:
        paths: the file, or the shards of one set of weights.
        what: what it is called in errors, such as `checkpoint`.

    Raises:
        UserError: if one is missing or broken, or holds no tensors, or what may be code; code in it is never run.
    """
    found: dict[str, Tensor] = {}
    for path in (paths,) if isinstance(paths, Path) else paths:
        found |= read_file(path, what)[0]
    return found


def read_file(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read one file as `read_tensors` does, and the texts by name that were saved with the tensors.

    Raises:
        UserError: as `read_tensors`.
    """
    with _explained(path, what):
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as stored:
                values: Any = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
                texts = stored.metadata()
        else:
            values = torch.load(path, map_location="cpu", weights_only=True)
            saved = getattr(values, "_metadata", None)
            texts = saved.get("") if isinstance(saved, Mapping) else None
    tensors = dict(_flat(values)) if isinstance(values, Mapping) else {}
    if not tensors and values != {}:
        raise UserError(f"{what} {path}: not a mapping of names to tensors of numbers; get another file")
    return tensors, {name: text for name, text in dict(texts or {}).items() if isinstance(text, str)}


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the readers raise into one line."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{what} {path}: no such file; correct the path") from None
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        said = " ".join(str(error).split())[:200] or "it ends too early"
        raise UserError(f"{what} {path}: cannot be read as weights ({said}); get the file again") from None
    except Exception as error:
        # torch's restricted unpickler raises several kinds of its own for anything but tensors.
        named = _CLASS.search(" ".join(str(error).split()))
        raise UserError(
            f"{what} {path}: refused, it is broken or holds more than tensors, which may be code "
            f"({named[1] if named else type(error).__name__}); get it as safetensors"
        ) from None


def _flat(values: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings; what has a number for a name is an optimizer's."""
    for name, value in values.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, Tensor):
            yield f"{before}{name}", value


def take_net(
    found: Mapping[str, Tensor], expected: Collection[str], where: str, key: str | None = None, cure: str = ALONE
) -> dict[str, Tensor]:
    """Take the weights of a net out of a checkpoint, under the net's names.

    They may lie in a part of it (`ema`, `state_dict.generator`), all their names may begin with something more, and
    torch's wrappers may have put parts into them (`module`, `_orig_mod`). Where no set has all names, the one with most
    is returned as it is, for `misfits` to tell what is wrong.

    Args:
        found: all tensors of the checkpoint.
        expected: names of the net's tensors.
        where: name of the checkpoint, for errors.
        key: the set to take, where there are several.
        cure: what an error says to do where there are several.

    Raises:
        UserError: if several sets are in it and no key says which, there is none under the key, or its values are of a
            kind that no net takes.
    """
    bare = {_bare(name): name for name in expected}
    named = {_bare(name): name for name in found}
    if len(bare) < len(expected) or len(named) < len(found):  # some names differ by a wrapper only
        bare, named = {name: name for name in expected}, {name: name for name in found}
    counts = Counter(before for name in named for before, rest in _splits(name) if rest in bare)
    whole = sorted(before for before, count in counts.items() if count == len(bare))
    labels = {before: _label(before, named) for before in (whole or counts)}
    try:
        chosen = _choose(labels, counts, key, len(bare))
    except LookupError as error:
        raise UserError(f"{where}: {error.args[0]}; {cure}") from None
    inside = [name for name in named if _belongs(name, chosen, whole)]
    if len(inside) < len(named) and key is None:
        log.warning("%s: takes %s, leaves out %d other tensors", where, labels[chosen], len(named) - len(inside))
    rests = {name: name.removeprefix(chosen) for name in inside}
    return _plain({bare.get(rest, rest): found[named[name]] for name, rest in rests.items()}, where)


def _choose(labels: Mapping[str, str], counts: Mapping[str, int], key: str | None, size: int) -> str:
    """Return the beginning of the names of the set to take; empty where nothing resembles the net.

    Raises:
        LookupError: if there are several, or none under the key.
    """
    sets = [before for before, label in labels.items() if key in (None, label, before.rstrip("."))]
    sets = sets or [before for before, label in labels.items() if label.startswith(f"{key}.")]
    if key is None:
        sets = [before for before in sets if 2 * counts[before] > size] or [""]
    most = [before for before in sets if counts.get(before, 0) == max(counts.get(before, 0) for before in sets)]
    if len(most) == 1 or (most and counts[most[0]] < size):
        return most[0]
    said = "several sets of weights are in it" if most else f"nothing that resembles this net under {key!r}"
    names = ", ".join(sorted(labels[before] for before in labels if 2 * counts[before] > size)) or "nothing"
    raise LookupError(f"{said}; there are {names}")


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield a name's beginnings, up to a dot, with what follows; the empty beginning first."""
    yield "", name
    for index, letter in enumerate(name):
        if letter == ".":
            yield name[: index + 1], name[index + 1 :]


def _label(before: str, named: Mapping[str, str]) -> str:
    """Write the beginning of some names as it stands in the file; `TOP` where there is none."""
    original = next(original for name, original in named.items() if name.startswith(before))
    starts = ("", *(start.rstrip(".") for start, _ in _splits(original)))
    return max((start for start in starts if _bare(start) == before.rstrip(".")), key=len, default="") or TOP


def _belongs(name: str, before: str, whole: Collection[str]) -> bool:
    """Tell whether a name is of a set, and not of another one that lies in it."""
    inner = (other for other in whole if other != before and other.startswith(before))
    return name.startswith(before) and not any(name.startswith(other) for other in inner)


def _plain(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return tensors that are numbers in memory.

    Raises:
        UserError: which names the first one that is sparse, complex, quantized or without values.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_complex() or tensor.is_quantized:
            raise UserError(f"{where}: {name} is no tensor of real numbers; get another file")
    return tensors


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say what is missing, unexpected, misshapen, of another kind or not finite; empty where all fits."""
    shared = sorted(found.keys() & expected.keys())
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "misshapen": [
            f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in shared
            if found[key].shape != expected[key].shape
        ],
        "of another kind": [
            f"{key} {found[key].dtype}"
            for key in shared
            if found[key].is_floating_point() != expected[key].is_floating_point()
        ],
        "not finite": not_finite({key: found[key] for key in shared}),
    }
    parts = [
        f"{len(items)} {kind} ({', '.join(items[:NAMED])}{', ...' if len(items) > NAMED else ''})"
        for kind, items in problems.items()
        if items
    ]
    return "; ".join(parts)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors that hold NaN or infinite numbers."""
    return [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, texts: Mapping[str, str]) -> None:
    """Write contiguous tensors and texts as safetensors, the same bytes each time.

    The library writes the texts in an order that changes from call to call: they are put in order in the header, whose
    length stays.
    """
    save_file(dict(tensors), path, metadata=dict(texts))
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(ordered.ljust(length))
