"""Gather the summaries of several evaluations in one table: one row per experiment, stage and variant."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from video_vae.config.types import OPTIONAL_METRICS
from video_vae.data.table import write_rows
from video_vae.errors import UserError
from video_vae.foreign import RECORD_TRAITS, check_places
from video_vae.provenance import RECORD, run_record, write_json_atomic

BASELINES = ("mean", "repeat")
DECIMALS = {"psnr": 4, "ssim": 6, "lpips": 6, "flolpips": 6, "flicker": 4, "lpips_vgg": 6}
DECIMALS |= {"vmaf": 3, "warping_error": 8, "tof": 5}
METRICS = ("psnr", "ssim", "lpips", "flolpips", "flicker")
STATISTICS = {"": "mean", "_std": "std", "_low": "low", "_high": "high"}
CONDITIONS = ("flow", "resolution", "lpips_weights", "spatial_weights", "version")
SOURCES = "sources"
"""Column with the number of sources that the clips come from, where they are known."""
PROTOCOL = "protocol"
"""Column that is there only where a protocol was named: its name, and `modified` with what differs."""
FVD = ("rfvd", "rfvd_name", "rfvd_features")
"""Columns that are there only where rFVD was computed; it has no interval."""
SHORT = 16
"""Digits of a hash that the table shows; the summary has all."""


class Entry(NamedTuple):
    """One summary and what it belongs to."""

    experiment: str
    stage: str
    summary: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `collect-metrics`."""
    form = "EXPERIMENT:STAGE:SUMMARY.json"
    parser.add_argument("entries", nargs="+", type=_entry, metavar=form, help="whose scores, and where they are")
    parser.add_argument("--output", type=Path, required=True, metavar="CSV", help="table to write")


def _entry(text: str) -> Entry:
    experiment, _, rest = text.partition(":")
    stage, _, summary = rest.partition(":")
    if not (experiment and stage and summary):
        raise argparse.ArgumentTypeError(f"{text!r} is not EXPERIMENT:STAGE:SUMMARY.json")
    return Entry(experiment, stage, Path(summary))


def run(args: argparse.Namespace) -> None:
    """Write the table of all summaries, and the record of what they are."""
    started = time.time()
    check_places({args.output.with_suffix(f".{RECORD}"): RECORD_TRAITS})
    collect(args.entries, args.output)
    read = {f"{entry.experiment} {entry.stage}": entry.summary for entry in args.entries}
    entries = [[entry.experiment, entry.stage, str(entry.summary)] for entry in args.entries]
    record = run_record("collect-metrics", None, read, outputs={"table": args.output}, started=started, entries=entries)
    write_json_atomic(args.output.with_suffix(f".{RECORD}"), record)


def collect(entries: Iterable[Entry], output: Path) -> None:
    """Write one row per variant of each summary, in the order given; the same summaries give the same bytes.

    Raises:
        UserError: if a summary is missing or is not one.
    """
    header, rows = table_of(entries)
    write_rows(output, header, ([row.get(name, "") for name in header] for row in rows))


def table_of(entries: Iterable[Entry]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Return the columns and rows of the table.

    Raises:
        UserError: if a summary is missing or is not one.
    """
    rows = [row for entry in entries for row in _rows(entry)]
    extra = [name for name in OPTIONAL_METRICS if any(name in row for row in rows)]
    more = [SOURCES] if any(SOURCES in row for row in rows) else []
    more += FVD if any("rfvd" in row for row in rows) else ()
    more += [PROTOCOL] if any(PROTOCOL in row for row in rows) else []
    return columns((*METRICS, *extra), more), rows


def columns(metrics: Iterable[str] = METRICS, more: Iterable[str] = ()) -> tuple[str, ...]:
    """List the columns of the table."""
    names = ["experiment", "stage", "variant", "clips", "frames"]
    for metric in metrics:
        names += [f"{metric}{suffix}" for suffix in STATISTICS]
        if metric == "psnr":
            names += ["psnr_pooled", "psnr_capped"]
    return (*names, *more, *CONDITIONS)


def _rows(entry: Entry) -> list[dict[str, str]]:
    try:
        summary = json.loads(entry.summary.read_text(encoding="utf-8"))
        said = _conditions(summary["conditions"])
        return [_row(entry, variant, values, said) for variant, values in summary["variants"].items()]
    except OSError as error:
        raise UserError(f"summary {entry.summary}: {error.strerror}; make it with `video-vae evaluate`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{entry.summary} is not a summary of `video-vae evaluate`: {error!r}; make it again") from None


def _conditions(said: Mapping[str, Any]) -> dict[str, str]:
    return {
        "flow": said["flow"] or "",
        "resolution": said["resolution"],
        "lpips_weights": " ".join(said["lpips"].values()),
        "spatial_weights": (said["spatial_sha256"] or "")[:SHORT],
        "version": said["version"],
        **({PROTOCOL: said[PROTOCOL]} if said.get(PROTOCOL) else {}),
    }


def _row(entry: Entry, variant: str, values: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, str]:
    stage = "baseline" if variant in BASELINES else entry.stage
    row = {"experiment": entry.experiment, "stage": stage, "variant": variant}
    row |= {name: str(values[name]) for name in ("clips", "frames", SOURCES) if name in values}
    for metric in (*METRICS, *OPTIONAL_METRICS):
        if metric in values:
            row |= {f"{metric}{suffix}": _text(values[metric][key], metric) for suffix, key in STATISTICS.items()}
    if "psnr" in values:
        row |= {"psnr_pooled": _text(values["psnr_pooled"]["mean"], "psnr"), "psnr_capped": str(values["psnr_capped"])}
    if "rfvd" in values:
        found = values["rfvd"]
        row |= {"rfvd": "" if found["value"] is None else f"{found['value']:.4f}"}
        row |= {"rfvd_name": found["name"], "rfvd_features": found["features"]}
    return row | dict(said)


def _text(value: float | None, metric: str) -> str:
    return "" if value is None else f"{value:.{DECIMALS[metric]}f}"
