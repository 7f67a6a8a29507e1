"""Take the pictures of the README and the documents from the report of the last demo: `make pictures`.

They are JPEG, small enough for a README. `workflow/scripts/draw_rulegraph.py` draws the rule graph.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page

from chromium import BINARY, browser, new_page, wait, watch

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "reports" / "report.html"
PICTURES = ROOT / "docs" / "images"
LIMIT = 400_000
"""Most bytes of a picture."""
READY = "document.querySelector('#player').dataset.state === 'paused'"


def opened(chromium: Browser, width: int, height: int, *, phone: bool = False) -> Page:
    """Open the report on a page of this size; a problem that it logs is an error."""
    page = new_page(chromium, width, height, phone=phone)
    seen = watch(page)
    page.goto(PAGE.as_uri())
    wait(page, READY)
    if seen.problems:
        sys.exit(f"make pictures: the report logs {seen.problems[0]}")
    return page


def to_frame(page: Page, frame: int) -> None:
    """Show a frame of the worst clip in the player."""
    scrub = "Object.assign(document.querySelector('.scrub'), {value: %d}).dispatchEvent(new Event('input'))"
    page.evaluate(scrub % frame)
    wait(page, f"document.querySelector('#player').dataset.painted === '{frame}'")


def keep(page: Page, name: str, selector: str | None = None) -> None:
    """Save what is in view as JPEG, or one element whole, without the header that stays in view when scrolled."""
    clip = None
    if selector:
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        clip = page.locator(selector).first.bounding_box()
    page.screenshot(path=PICTURES / name, type="jpeg", quality=85, full_page=clip is not None, clip=clip)


def take(chromium: Browser) -> None:
    """Take all screenshots of the report."""
    page = opened(chromium, 1280, 820)
    keep(page, "report.jpg")
    to_frame(page, 12)
    keep(page, "player.jpg", "#player")
    keep(page, "training.jpg", "#training .wide")
    page.emulate_media(color_scheme="dark")
    keep(page, "experiments.jpg", "#experiments")
    phone = opened(chromium, 390, 844, phone=True)
    phone.emulate_media(color_scheme="dark")
    to_frame(phone, 13)
    phone.evaluate("document.querySelector('.stage').scrollIntoView({behavior: 'instant'})")
    phone.evaluate("scrollBy({top: -52, behavior: 'instant'})")
    keep(phone, "report-phone.jpg")


def main() -> None:
    """Take the pictures, and say where they are and how large."""
    if BINARY is None:
        sys.exit("make pictures: chromium was not found; apt-get install chromium")
    if not PAGE.is_file():
        sys.exit(f"make pictures: {PAGE} does not exist; run `make demo` first")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        take(chromium)
    for path in sorted(PICTURES.iterdir()):
        size = path.stat().st_size
        sys.stdout.write(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB\n")
        if size > LIMIT:
            sys.exit(f"make pictures: {path} is larger than {LIMIT / 1000:.0f} kB")


if __name__ == "__main__":
    main()
