"""Debian's headless Chromium under playwright, for tests of the report in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

BINARY = shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with a fresh profile; stop it and remove the profile afterwards."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BINARY, args=["--disable-dev-shm-usage"])
        try:
            yield chromium
        finally:
            chromium.close()


def new_page(chromium: Browser, width: int, height: int, *, phone: bool = False) -> Page:
    """Open an empty page of a size in CSS pixels."""
    scale = 2 if phone else 1
    return chromium.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale, is_mobile=phone)


def wait(page: Page, expression: str, seconds: float = 60) -> None:
    """Wait until an expression is true: playwright's own wait calls eval, which the report's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise AssertionError(f"still not true after {seconds} s: {expression}")
        page.wait_for_timeout(50)


@dataclass
class Seen:
    """What a page has logged as a problem, and all it has requested, since it is watched."""

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.problems.append(message.text)

    def from_outside(self) -> list[str]:
        """Return the addresses that are not of the file itself."""
        return [address for address in self.requests if not address.startswith(("file:", "data:", "blob:", "about:"))]


def watch(page: Page) -> Seen:
    """Note a page's problems and requests from now on."""
    seen = Seen()
    page.on("console", seen.note)
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    return seen
