"""Draw the demo's graph of rules to docs/images/rulegraph.svg, the same bytes for the same rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

from video_vae.files import atomic_path  # noqa: E402
from video_vae.report.graph import draw_graph, parse_dot  # noqa: E402
from video_vae.report.style import svg_text  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "rulegraph.svg"


def planned() -> str:
    """Return the graph of all rules of the demo, as dot text."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/demo.yaml", "--rulegraph", "dot"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    figure = draw_graph(parse_dot(planned()))
    figure.set_facecolor("white")  # dark pages would show through
    with atomic_path(PICTURE) as aside:
        aside.write_text(svg_text(figure), encoding="utf-8")
