"""Tables for a paper: main results, experiments, paired differences, as LaTeX (booktabs), CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from video_vae.config import SCORED
from video_vae.config.protocols import scored_as
from video_vae.config.types import FLOW_METRICS
from video_vae.files import atomic_path
from video_vae.foreign import check_places
from video_vae.metrics.intervals import MIN_SOURCES
from video_vae.report import compare
from video_vae.report.compare import Difference, Row
from video_vae.report.lengths import by_length
from video_vae.report.paper_formats import Cell, Table, as_csv, as_latex, as_markdown
from video_vae.report.rivals import lossy_rivals
from video_vae.report.sections import metric_cell, protocol_names
from video_vae.report.tables import BASELINE, Results
from video_vae.report.terms import METRICS, Metric, counted, flow_label, number, stage_label, variant_label


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Write each table in three formats; return the files.

    Raises:
        UserError: if a file of others stands in the place of one.
    """
    texts: dict[Path, str] = {}
    for name, table in paper_tables(results).items():
        for suffix, text in (
            ("tex", as_latex(table, f"tab:{name}")),
            ("csv", as_csv(table)),
            ("md", as_markdown(table)),
        ):
            texts[folder / f"{name}.{suffix}"] = text
    check_places({path: _traits(path, text) for path, text in texts.items()})
    for path, text in texts.items():
        with atomic_path(path) as aside:
            aside.write_text(text, encoding="utf-8")
    return list(texts)


def _traits(path: Path, text: str) -> Sequence[str]:
    first = text.splitlines()[0]
    return next(csv.reader([first])) if path.suffix == ".csv" else [first]


def paper_tables(results: Results) -> dict[str, Table]:
    """Make the tables by name; the first three without rows too, so that a document with them still compiles."""
    experiments = _scores(results, "Experiments, without the stages that one shares.", experiment_groups(results))
    main = _scores(results, "Reconstruction of held-out clips.", [("", main_rows(results))])
    more = {"findings": _findings(results), "lengths": _lengths(results)}
    return {
        "main": main,
        "experiments": experiments,
        "differences": _differences(results, [*compare.main_pairs(results), *compare.experiment_pairs(results)]),
        **{name: table for name, table in more.items() if table.rows},
    }


def main_rows(results: Results) -> list[Row]:
    """List what answers the question: the base run's last reconstructions, the spatial VAE alone, rivals, baselines."""
    base = results.experiments[0]
    final = results.final_stage(base)
    rows = [] if final is None else [Row(experiment=base, stage=final, variant=name) for name in ("rec", "spatial")]
    rows += [*compare.quantised_rows(results), *compare.rival_rows(results)]
    rows += [Row(experiment=base, stage=BASELINE, variant=name) for name in compare.BASELINE_VARIANTS]
    return [row for row in rows if results.row(row.experiment, row.stage, row.variant) is not None]


def experiment_groups(results: Results) -> list[tuple[str, list[Row]]]:
    """List the reconstructions of the base run and of the experiments that have a stage of their own, by stage."""
    groups = []
    for stage in SCORED:
        names = [
            name
            for name in results.experiments
            if results.row(name, stage, "rec") is not None
            and (name == results.experiments[0] or not compare.shared(results, (name, results.experiments[0]), stage))
        ]
        if len(names) > 1:
            groups.append((stage_label(stage), [Row(experiment=name, stage=stage, variant="rec") for name in names]))
    return groups


@dataclass(frozen=True, kw_only=True)
class _Best:
    """The best row of a group by a metric, and its differences from all others of the group."""

    row: Row
    metric: str
    against: Sequence[Difference]


def _scores(results: Results, caption: str, groups: Sequence[tuple[str, Sequence[Row]]]) -> Table:
    rows = [row for _, group in groups for row in group]
    means = {row: results.row(row.experiment, row.stage, row.variant) for row in rows}
    known = {row: values for row, values in means.items() if values is not None}
    metrics = [m for m in METRICS.values() if any(pd.notna(values.get(m.key)) for values in known.values())]
    best = _best(results, [group for _, group in groups], metrics)
    lines = []
    for title, group in groups:
        for row in group:
            label = [row.experiment, title] if title else [_label(results, row)]
            cells = [_cell(known[row], metric, bold=(row, metric.key) in best) for metric in metrics]
            lines.append((label, cells))
    heads = ["experiment", "after"] if groups and groups[0][0] else ["reconstruction"]
    return Table(caption=caption, heads=heads, metrics=metrics, rows=lines, note=_note(results, rows, metrics))


def _label(results: Results, row: Row) -> str:
    return row.label(with_experiment=False) if row.variant == "rec" else variant_label(row.variant)


def _cell(values: pd.Series, metric: Metric, *, bold: bool) -> Cell:
    if pd.isna(values.get(metric.key)):
        return Cell()
    written = metric_cell(values, metric.key)
    low, high = (float(values.get(f"{metric.key}_{end}", float("nan"))) for end in ("low", "high"))
    numbers = (float(values[metric.key]), low, high)
    return Cell(text=written["text"], interval=written["interval"], bold=bold, numbers=numbers)


def _best(results: Results, groups: Iterable[Sequence[Row]], metrics: Sequence[Metric]) -> set[tuple[Row, str]]:
    """Find the rows that are better than every other of their group, corrected for all comparisons of the table."""
    found = []
    for group in groups:
        for metric in metrics:
            means = {row: compare.clip_values(results, row, metric.key).mean() for row in group}
            ranked = sorted((row for row in group if pd.notna(means[row])), key=lambda row: means[row])
            if len(ranked) < 2:
                continue
            first = ranked.pop(-1 if metric.higher_is_better else 0)
            made = [compare.paired_difference(results, first, other, metric.key) for other in ranked]
            found.append(_Best(row=first, metric=metric.key, against=[one for one in made if one is not None]))
    corrected = iter(compare.corrected([one for best in found for one in best.against]))
    verdicts = {(best.row, best.metric): [next(corrected).verdict for _ in best.against] for best in found}
    return {key for key, said in verdicts.items() if said and set(said) == {"better"}}


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Two rows and their difference in each metric."""

    first: Row
    second: Row
    found: dict[str, Difference]

    def cells(self, metrics: Sequence[Metric]) -> list[Cell]:
        """Write the difference in each metric."""
        return [_difference_cell(self.found.get(metric.key)) for metric in metrics]

    @property
    def names(self) -> list[str]:
        """Name both, with their runs where these differ."""
        several = self.first.experiment != self.second.experiment
        return [row.label(with_experiment=several) for row in (self.first, self.second)]

    @property
    def seen_from(self) -> str:
        """Write the smallest difference in the first metric that its interval would tell from zero: half its width."""
        difference = next(iter(self.found.values()))
        metric = METRICS[difference.metric]
        return f"{number((difference.high - difference.low) / 2, metric.decimals)} {metric.unit}".strip()


def _compared(found: Sequence[Difference]) -> list[_Compared]:
    pairs: dict[tuple[Row, Row], dict[str, Difference]] = {}
    for one in found:
        pairs.setdefault((one.first, one.second), {})[one.metric] = one
    return [_Compared(first=first, second=second, found=mine) for (first, second), mine in pairs.items()]


def _metrics_of(found: Sequence[Difference]) -> list[Metric]:
    return [metric for metric in METRICS.values() if any(one.metric == metric.key for one in found)]


def _findings(results: Results) -> Table:
    """Set each experiment's claim beside what was found: its last stage, or every one where several are its own."""
    claims = {name: run.report.claim for name, run in results.settings.items() if run.report.claim is not None}
    pairs = [pair for pair in compare.experiment_pairs(results) if pair[0].experiment in claims]
    found = compare.differences(results, pairs)
    metrics = _metrics_of(found)
    lines = [
        ([claims[one.first.experiment] or "", *one.names, one.seen_from], one.cells(metrics))
        for one in _compared(found)
    ]
    rows = [row for pair in pairs for row in pair]
    heads = ["claim or question", "first", "second", "seen from"]
    said = "Seen from: half of the first interval's width, about the smallest difference that it tells from zero."
    return Table(
        caption="Findings: means of the differences clip by clip, first less second.",
        heads=heads,
        metrics=metrics,
        rows=lines,
        note=f"{_protocol(results, rows, metrics)} Means of differences; {RULED} {said} {compare.rule_text(found)}",
    )


def _lengths(results: Results) -> Table:
    """Set what weights lose to the spatial VAE in windows of each length below each other, clip by clip."""
    scored = [(name, one) for name, lengths in by_length(results).items() for one in lengths]
    found = compare.differences(results, [(one.rec, one.spatial) for _, one in scored])
    metrics = _metrics_of(found)
    cells = {one.first: one.cells(metrics) for one in _compared(found)}
    rows = [row for _, one in scored for row in (one.rec, one.spatial)]
    return Table(
        caption="Video VAE less the spatial VAE alone, by the length of the windows.",
        heads=["weights", "frames of a window"],
        metrics=metrics,
        rows=[([name, str(one.frames)], cells[one.rec]) for name, one in scored if one.rec in cells],
        note=f"{_protocol(results, rows, metrics)} Means of differences; {RULED} {compare.rule_text(found)}",
    )


def _differences(results: Results, pairs: Sequence[tuple[Row, Row]]) -> Table:
    found = compare.differences(results, pairs)
    metrics = _metrics_of(found)
    lines = [(one.names, one.cells(metrics)) for one in _compared(found)]
    rows = list(dict.fromkeys(row for pair in pairs for row in pair))
    note = f"{_protocol(results, rows, metrics)} Means of the differences clip by clip, first less second; {RULED}"
    return Table(
        caption="Paired differences.",
        heads=["first", "second"],
        metrics=metrics,
        rows=lines,
        note=f"{note} {compare.rule_text(found)} Bold: a verdict." if rows else EMPTY,
        versus="less",
    )


EMPTY = "Empty: the results hold no such scores."
RULED = "in brackets their 95 % intervals (Student's t, corrected for skewness, over sources)."


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell()
    written = compare.written_difference(difference)
    return Cell(
        text=written["gap"],
        interval=written["gap_interval"],
        bold=difference.verdict in ("better", "worse"),
        numbers=(difference.mean, difference.low, difference.high),
        p=difference.p,
        verdict=difference.verdict,
    )


def _note(results: Results, rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    sizes = ", ".join(f"{m.label} {m.smallest:g}{' ' if m.unit else ''}{m.unit}" for m in metrics)
    few = min((compare.source_count(results, row) for row in rows), default=0) < MIN_SOURCES
    bold = (
        f"Nothing is bold: that takes {MIN_SOURCES} sources."
        if few
        else "Bold: better than every other row, significant at 5 % after Holm's correction, by at least " + sizes + "."
    )
    return f"{_protocol(results, rows, metrics)} Means over clips; {RULED} {bold}" if rows else EMPTY


def _protocol(results: Results, rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """Say what the numbers were measured on, and how."""
    counts = [results.row(row.experiment, row.stage, row.variant) for row in rows]
    clips = sorted({int(values["clips"]) for values in counts if values is not None})
    sources = sorted({compare.source_count(results, row) for row in rows})
    config = scored_as(results.config)
    height, width = config.data.resolution
    interval = config.data.frame_interval
    every = "every frame" if interval == 1 else f"one frame of {interval}"
    said = [
        f"{_range(clips)} held-out {_plural('clip', clips)} from {_range(sources)} {_plural('source', sources)}",
        f"{_windows(results, rows)}, {height}×{width}, {every}, stored without loss",
    ]
    named = protocol_names(results, dict.fromkeys(row.experiment for row in rows))
    said += [f"protocol {named}"] if named else []
    said += [f"{name} given as {storage}" for name, storage in lossy_rivals(results).items()]
    said += ["LPIPS with AlexNet v0.1"] if any(metric.key == "lpips" for metric in metrics) else []
    flows = sorted({value for value in results.metrics_text.get("flow", ()) if value})
    moved = [metric.label for metric in metrics if metric.key in FLOW_METRICS]
    if flows and moved:
        said.append(f"{', '.join(moved)} with {', '.join(map(flow_label, flows))} flow")
    return f"{'; '.join(said)}."


def _windows(results: Results, rows: Sequence[Row]) -> str:
    """Say how clips were cut, in all runs of some rows."""
    runs = dict.fromkeys(row.experiment for row in rows) or dict.fromkeys(results.experiments[:1])
    ways = [scored_as(results.settings[name]).reconstruction for name in runs]
    lengths = sorted({way.max_frames for way in ways if way.max_frames is not None})
    whole = any(way.max_frames is None for way in ways)
    cut = f"up to {counted(max(way.windows for way in ways), 'window')} of {_range(lengths)} frames of each"
    return " or ".join([cut] * bool(lengths) + ["whole clips"] * whole)


def _range(values: Sequence[int]) -> str:
    if not values:
        return "no"
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _plural(noun: str, values: Sequence[int]) -> str:
    return noun if list(values) == [1] else f"{noun}s"
