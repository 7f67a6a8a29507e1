"""How figures look: a colour-blind safe palette (after Okabe and Ito), quiet axes, reproducible files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from video_vae.files import atomic_path

COLOURS: dict[str, tuple[str, str]] = {
    "ink": ("#1d2329", "#e4e8ec"),
    "muted": ("#5d6873", "#9aa5b0"),
    "grid": ("#dde2e7", "#343c45"),
    "paper": ("#fdfdfc", "#14181c"),
    "panel": ("#f3f5f7", "#1d2329"),
    "rec": ("#0072b2", "#56b4e9"),
    "spatial": ("#d55e00", "#f2935c"),
    "repeat": ("#00805e", "#3cc39b"),
    "mean": ("#a3507f", "#dd94bd"),
    "other1": ("#7a5fb0", "#b39ddb"),
    "other2": ("#8a6d00", "#e0c04a"),
    "other3": ("#4f6475", "#a9bccb"),
}
"""Name -> colour on light and on dark paper. Figures use the first; in the page it becomes a variable of the sheet."""

PANEL_WIDTH = 3.7
"""Width of a panel in inches; shown about 370 pixels wide, so that text keeps its size on a phone."""

SCREEN_SCALE = 1.6
"""Most CSS pixels a point that a figure is shown at."""

SALT = "video-vae"
CREATOR = "video-vae"
"""What figures say of their origin."""
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": SALT,
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.3,
}


def colour(name: str) -> str:
    """Give a variant's (or other named) colour on light paper; unknown names get a spare one, always the same."""
    if name in COLOURS:
        return COLOURS[name][0]
    return COLOURS[f"other{sum(name.encode()) % 3 + 1}"][0]


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the look to figures made and saved inside."""
    ink, muted, grid = (colour(name) for name in ("ink", "muted", "grid"))
    tints = {
        "text.color": ink,
        "axes.labelcolor": muted,
        "axes.edgecolor": muted,
        "axes.titlecolor": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "grid.color": grid,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
    with matplotlib.rc_context(cast(Any, {**_SETTINGS, **tints})):
        yield


def new_figure(height: float, width: float = PANEL_WIDTH) -> Figure:
    """Make an empty figure, sizes in inches (outside pyplot, which keeps global state)."""
    return Figure(figsize=(width, height), layout="constrained")


def svg_text(figure: Figure) -> str:
    """Draw a figure as SVG: the same figure gives the same bytes (no date, salted identifiers)."""
    buffer = io.StringIO()
    with drawing():
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": CREATOR})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Save a figure as `folder/name.svg` and `.pdf`, the same bytes every time, and return the SVG's text."""
    text = svg_text(figure)
    with atomic_path(folder / f"{name}.svg") as aside:
        aside.write_text(text, encoding="utf-8")
    # the layout is found by now
    figure.set_layout_engine("none")
    with atomic_path(folder / f"{name}.pdf") as aside, drawing():
        FigureCanvasPdf(figure).print_pdf(aside, metadata={"CreationDate": None, "Creator": CREATOR, "Producer": None})
    return text


def inline_svg(text: str, name: str, description: str) -> str:
    """Fit a figure's SVG into the page: its own identifiers, the page's font and colours, a text alternative."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    used = set(re.findall(r'(?:xlink:href="|href="|url\()#([^")]+)', body))
    body = re.sub(
        r'\sid="([^"]*)"',
        lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "",
        body,
    )
    body = re.sub(r'((?:xlink:)?href="|url\()#', rf"\g<1>#{name}-", body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r"font: ([^;\"]*?)([\d.]+)px [^;\"]*", r"font-size: \2px; font-weight: \1", body)
    body = re.sub(r"font-weight: ;|font-weight: (?=\")", "", body)
    for key, (light, _) in COLOURS.items():
        body = re.sub(light, f"var(--{key})", body, flags=re.I)
    opening = body[: body.index(">")]
    viewbox = re.search(r'viewBox="[^"]*"', opening)
    width = re.search(r'width="([\d.]+)pt"', opening)
    size = f' style="max-width:{float(width[1]) * SCREEN_SCALE:.0f}px"' if width else ""
    head = f'<svg {viewbox[0] if viewbox else ""}{size} role="img" aria-label="{description}"'
    return head + body[body.index(">") :]
