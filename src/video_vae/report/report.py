"""Write the report of a run: one HTML file that opens offline, its figures as SVG and PDF, and tables for a paper."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the report is made from and where it goes."""
    parser.add_argument("config", metavar="CONFIG", help="settings of the run: YAML or JSON file, or JSON text")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the run")
    parser.add_argument("--output", type=Path, default=Path("reports/report.html"), help="page to write")
    parser.add_argument("--figures", type=Path, help="folder for the figures [figures, beside the page]")
    parser.add_argument("--tables", type=Path, help="folder for the tables of a paper [tables, beside the page]")
    parser.add_argument("--rulegraph", type=Path, help="job graph: an SVG, or the text of `snakemake --rulegraph`")
    parser.add_argument("--configfile", help="name of the config in the commands that the page shows [CONFIG]")


def run(args: argparse.Namespace) -> None:
    """Make the page, its figures and the tables."""
    from video_vae.config import load_config
    from video_vae.config.files import is_json_text
    from video_vae.files import atomic_path
    from video_vae.foreign import PAGE, RECORD_TRAITS, check_places
    from video_vae.provenance import RECORD, run_record, write_json_atomic
    from video_vae.redaction import hide_secrets
    from video_vae.report.html import render
    from video_vae.report.paper_tables import write_tables
    from video_vae.report.tables import load_results

    started = time.time()
    config = load_config(args.config)
    given_as_text = is_json_text(args.config)
    configfile = args.configfile or ("CONFIG.yaml" if given_as_text else str(args.config))
    results = load_results(config, args.results)
    figures = args.figures or args.output.parent / "figures"
    check_places({args.output: [PAGE], args.output.with_suffix(f".{RECORD}"): RECORD_TRAITS})
    tables = args.tables or args.output.parent / "tables"
    write_tables(results, tables)
    page = render(results, figures, rulegraph=args.rulegraph, configfile=configfile)
    with atomic_path(args.output) as aside:
        aside.write_text(hide_secrets(page), encoding="utf-8")
    table = args.results / "metrics.csv"
    read = {"metrics": table} if table.is_file() else {}
    written = {"page": args.output, "figures": figures if figures.is_dir() else None, "tables": tables}
    record = run_record("report", config, read, outputs=written, started=started)
    write_json_atomic(args.output.with_suffix(f".{RECORD}"), record)
    logger.info("%s: %.1f MB, figures in %s", args.output, args.output.stat().st_size / 1e6, figures)


if __name__ == "__main__":
    from video_vae.cli import main_for

    raise SystemExit(main_for("report"))
