"""Read a mapping of settings from a file of YAML or JSON, or from JSON text, without losing anything that it says."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from video_vae.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
MAX_BYTES = 10_000_000
"""A longer file is no config: its YAML would take minutes to read."""
MAX_JSON_BYTES = 10 * MAX_BYTES
"""The same for JSON, which is read faster, and is longer where the workflow writes what such a config says."""


class _Loader(yaml.SafeLoader):
    """Refuse a key that is given twice: YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Read a mapping, keys that it merges from elsewhere (`<<`) aside."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice!r} is given twice")
    return dict(pairs)


def is_json_text(source: object) -> bool:
    """Tell whether a config is given as the text of a JSON object, not as the path of a file."""
    return str(source).lstrip().startswith("{")


def is_json(source: str | Path) -> bool:
    """Tell whether settings are JSON, given as text or as a file, as the workflow writes those of a job."""
    return is_json_text(source) or Path(source).suffix == ".json"


def read_settings(source: str | Path) -> Any:
    """Read a file of YAML or JSON, or a JSON object given as text; an empty file gives no settings.

    Raises:
        UserError: if the file is missing or cannot be read, or a key is given twice.
    """
    text = str(source)
    if is_json_text(source):
        try:
            return json.loads(text, object_pairs_hook=_pairs)
        except (ValueError, RecursionError) as error:
            raise UserError(f"config given as JSON is not JSON: {_line(error)}; give an object of settings") from None
    try:
        path = Path(source)
        most = MAX_JSON_BYTES if is_json(path) else MAX_BYTES
        if path.stat().st_size > most:
            raise UserError(f"config {source} has more than {most:,} bytes; give a YAML file of settings")
        values = _parsed(path)
    except OSError as error:
        raise UserError(f"config {source}: {error.strerror}; give a YAML file such as config/demo.yaml") from None
    except UnicodeDecodeError:
        raise UserError(f"config {source} is not UTF-8; save it as UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates and integers that do not exist: ValueError
        raise UserError(f"config {source} is not YAML: {_line(error)}") from None
    return {} if values is None else values


def _parsed(path: Path) -> Any:
    """Read a file as JSON where it is named so, which is faster than YAML and exact: `1e-05` is a text in YAML."""
    text = path.read_text(encoding="utf-8")
    if is_json(path):
        with suppress(json.JSONDecodeError):  # YAML that is named so, with comments for example
            return json.loads(text, object_pairs_hook=_pairs)
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] if not isinstance(error, RecursionError) else "nested too deeply"


def retyped(values: Any) -> Any:
    """Turn the text `null` into None, nested: Snakemake reads what `--config` gives as text, whatever it looks like."""
    if isinstance(values, Mapping):
        return {key: retyped(value) for key, value in values.items()}
    if isinstance(values, list):
        return [retyped(value) for value in values]
    return None if values == "null" else values
