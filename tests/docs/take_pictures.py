"""Take the pictures of the README and the documents from the report of the last demo: `make pictures`.

They are JPEG, small enough for a README. `workflow/scripts/draw_rulegraph.py` draws the rule graph.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chromium import BINARY, Page, browser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "reports" / "report.html"
PICTURES = ROOT / "docs" / "images"
LIMIT = 400_000
"""Most bytes of a picture."""
READY = "document.querySelector('#player').dataset.state === 'paused'"


def to_frame(page: Page, frame: int) -> None:
    """Show a frame of the worst clip in the player."""
    page.eval(f"Object.assign(document.querySelector('.scrub'), {{value: {frame}}}).dispatchEvent(new Event('input'))")
    page.wait(f"document.querySelector('#player').dataset.painted === '{frame}'")


def take(page: Page) -> None:
    """Take all screenshots of the open report."""
    page.size(1280, 820)
    page.screenshot(PICTURES / "report.jpg")
    to_frame(page, 12)
    page.eval("document.querySelector('#clips').scrollIntoView({behavior: 'instant'})")
    page.screenshot(PICTURES / "player.jpg", "#player")
    page.screenshot(PICTURES / "training.jpg", "#training .wide")
    page.size(1280, 820, dark=True)
    page.screenshot(PICTURES / "experiments.jpg", "#experiments")
    page.size(390, 844, dark=True, phone=True)
    to_frame(page, 13)
    page.eval("document.querySelector('.stage').scrollIntoView({behavior: 'instant'})")
    page.eval("scrollBy({top: -52, behavior: 'instant'})")
    page.screenshot(PICTURES / "report-phone.jpg")


def main() -> None:
    """Take the pictures, and say where they are and how large."""
    if BINARY is None:
        sys.exit("make pictures: chromium was not found; apt-get install chromium")
    if not PAGE.is_file():
        sys.exit(f"make pictures: {PAGE} does not exist; run `make demo` first")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        page.size(1280, 820)
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.open(PAGE.as_uri())
        page.wait(READY)
        take(page)
        if page.problems:
            sys.exit(f"make pictures: the report logs {page.problems[0]}")
    for path in sorted(PICTURES.iterdir()):
        size = path.stat().st_size
        sys.stdout.write(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB\n")
        if size > LIMIT:
            sys.exit(f"make pictures: {path} is larger than {LIMIT / 1000:.0f} kB")


if __name__ == "__main__":
    main()
