"""Keep tokens and passwords out of logs, records and reports, which people share."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SHORTEST = 8
"""Values of the environment that are shorter are no secrets that could be told from other text."""
_NAMES = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@\"']+@")
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def _secrets() -> list[str]:
    """List what the environment holds that is not for others: tokens by the variable's name, passwords of addresses."""
    found = {value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= SHORTEST}
    for value in os.environ.values():
        found |= {password for password in _PASSWORD.findall(value) if len(password) >= SHORTEST}
    return sorted(found, key=len, reverse=True)


def hide_secrets(text: str) -> str:
    """Replace tokens and passwords of the environment, and the part of an address before the @, by stars."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return _HUB_TOKEN.sub(HIDDEN, _IN_ADDRESS.sub(f"{HIDDEN}@", text))


def hide_in(value: Any) -> Any:
    """Replace secrets in every text of a JSON-like value."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, Mapping):
        return {key: hide_in(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in(inner) for inner in value]
    return value


class HidingFormatter(logging.Formatter):
    """Write log lines without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line."""
        return hide_secrets(super().format(record))
