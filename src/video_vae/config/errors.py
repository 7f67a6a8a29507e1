"""Turn validation errors into one line that names the key and its cure."""

from __future__ import annotations

import difflib
import re
import reprlib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from video_vae.errors import one_line

MAX_PROBLEMS = 5
"""Problems named in one line; the next run names the rest."""
_LIMITED = reprlib.Repr()
_LIMITED.maxstring = _LIMITED.maxother = _LIMITED.maxlong = 60
_LIMITED.maxlist = _LIMITED.maxtuple = 2


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List the dotted names of every key of a model and of the models inside it."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{name}"
        keys.append(dotted)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys += known_keys(inner, f"{dotted}.")
    return keys


def _nearest(key: str, model: type[BaseModel]) -> str:
    keys = known_keys(model)
    parent, _, last = key.rpartition(".")
    siblings = [k for k in keys if k.rpartition(".")[0] == parent]
    names = difflib.get_close_matches(last, [k.rpartition(".")[2] for k in siblings], n=1, cutoff=0.5)
    if names:
        return f"; did you mean {parent + '.' if parent else ''}{names[0]}?"
    elsewhere = [k for k in keys if k.rpartition(".")[2] == last] or difflib.get_close_matches(key, keys, n=1)
    return f"; did you mean {elsewhere[0]}?" if elsewhere else "; config/README.md lists every key"


def _given(value: Any) -> str:
    if isinstance(value, dict | BaseModel):
        return ""
    return f" (given: {re.sub(r'://[^/@]*@', '://...@', _LIMITED.repr(value))})"


def _line(problem: Any, model: type[BaseModel]) -> str:
    key = ".".join(f"{part}"[:80] for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return one_line(f"unknown key {key}{_nearest(key, model)}")
    message = problem["msg"].removeprefix("Value error, ")
    return one_line(f"{key}: {message}{_given(problem['input'])}" if key else message)


def explain(error: ValidationError, model: type[BaseModel], origin: str) -> str:
    """Say in one line what is wrong with a config and which key to change."""
    problems = error.errors(include_url=False)
    more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
    return f"{origin}: " + "; ".join(_line(problem, model) for problem in problems[:MAX_PROBLEMS]) + more
