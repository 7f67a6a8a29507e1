"""Write the findings of a finished study (config/study.yaml) into docs/results.md, and its figure beside it.

Run it in the folder of the study. Tables and figure are the report's, made again from `results/` alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

from video_vae.config import load_config  # noqa: E402
from video_vae.files import atomic_path  # noqa: E402
from video_vae.report.figures import by_length  # noqa: E402
from video_vae.report.lengths import by_length as runs_by_length  # noqa: E402
from video_vae.report.lengths import length_points  # noqa: E402
from video_vae.report.paper_formats import as_markdown  # noqa: E402
from video_vae.report.paper_tables import paper_tables  # noqa: E402
from video_vae.report.style import svg_text  # noqa: E402
from video_vae.report.tables import load_results  # noqa: E402

PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "study.svg"
TABLES = ("findings", "lengths", "main")


def published(page: str, tables: dict[str, str]) -> str:
    """Put each table between its marks, `<!-- study: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: if the page has no such marks.
    """
    for name, text in tables.items():
        section = re.compile(rf"(<!-- study: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = section.subn(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"{PAGE.name} has no place for the table {name}: <!-- study: {name} --> and <!-- end -->")
    return page


if __name__ == "__main__":
    results = load_results(load_config("results/settings/make_report.json"), Path("results"))
    made = paper_tables(results)
    text = published(PAGE.read_text(encoding="utf-8"), {name: as_markdown(made[name]) for name in TABLES})
    figure = by_length(length_points(runs_by_length(results), results, "psnr"), "psnr")
    figure.set_facecolor("white")  # dark pages would show through
    with atomic_path(PICTURE) as aside:
        aside.write_text(svg_text(figure), encoding="utf-8")
    with atomic_path(PAGE) as aside:
        aside.write_text(text, encoding="utf-8")
