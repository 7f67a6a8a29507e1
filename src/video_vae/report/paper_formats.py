"""One table in three formats: LaTeX with booktabs, CSV with every digit, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from video_vae.report.terms import MISSING, Metric

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number with its interval, as text and as it is; the default is a cell without any."""

    text: str = MISSING
    interval: str = ""
    bold: bool = False
    numbers: tuple[float, float, float] | None = None
    """Mean and the ends of its interval."""
    p: float | None = None
    verdict: str | None = None
    """Of a difference, as its p."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of labels and cells, a cell per metric."""

    caption: str
    heads: Sequence[str]
    """Heads of the columns of labels."""
    metrics: Sequence[Metric]
    rows: Sequence[tuple[Sequence[str], Sequence[Cell]]]
    note: str
    """Protocol, clips and rules, in one line."""
    versus: str = ""
    """Word between the two labels of a row of differences."""


def latex_text(text: str) -> str:
    """Write any text so that LaTeX prints it with its standard fonts; what they lack becomes a question mark."""
    return "".join(_LATEX.get(mark) or (mark if mark.isascii() and mark.isprintable() else "?") for mark in text)


def as_latex(table: Table, label: str) -> str:
    """Write a table environment, as wide as the page, that needs the package booktabs and nothing else."""
    labels = 1 if table.versus else len(table.heads)
    body = [line for names, cells in table.rows for line in _latex_lines(table, names, cells)]
    return "\n".join(
        [
            r"% Made by video-vae; in the preamble: \usepackage{booktabs}",
            r"\begin{table*}",
            r"  \centering",
            rf"  \caption{{{latex_text(table.caption)}}}",
            rf"  \label{{{label}}}",
            r"  \footnotesize",
            r"  \setlength{\tabcolsep}{3pt}",
            rf"  \begin{{tabular}}{{{'l' * labels}{'r' * len(table.metrics)}}}",
            r"    \toprule",
            *(f"    {line}" for line in _latex_heads(table)),
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"  \par\smallskip",
            rf"  {latex_text(table.note)}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_heads(table: Table) -> list[str]:
    first, second = ([table.heads[0]], [table.versus]) if table.versus else (table.heads, [""] * len(table.heads))
    units = [metric.unit for metric in table.metrics]
    return [
        _row([*map(latex_text, first), *(latex_text(f"{metric.label} {metric.arrow}") for metric in table.metrics)]),
        *([_row([_small(text) for text in (*second, *units)])] if any((*second, *units)) else []),
    ]


def _latex_lines(table: Table, labels: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    """Write a row, its intervals on a line below: side by side they would be wider than a page."""
    first, second = (labels[:1], [f"{table.versus} {labels[1]}"]) if table.versus else (labels, [""] * len(labels))
    texts = [latex_text(cell.text) for cell in cells]
    shown = [rf"\textbf{{{text}}}" if cell.bold else text for cell, text in zip(cells, texts, strict=True)]
    intervals = [f"[{cell.interval.replace(' to ', ', ')}]" if cell.interval else "" for cell in cells]
    lines = [_row([*map(latex_text, first), *shown])]
    return [*lines, _row(map(_small, [*second, *intervals]), gap="[2pt]")] if any((*second, *intervals)) else lines


def _row(cells: Iterable[str], gap: str = "") -> str:
    return " & ".join(cells) + rf" \\{gap}"


def _small(text: str) -> str:
    return rf"{{\scriptsize {latex_text(text)}}}" if text else ""


def _head(metric: Metric) -> str:
    return f"{metric.label}{f', {metric.unit}' if metric.unit else ''} {metric.arrow}"


def as_markdown(table: Table) -> str:
    """Write caption, table and note."""
    heads = [*table.heads, *map(_head, table.metrics)]
    marks = ["---"] * len(table.heads) + ["---:"] * len(table.metrics)
    lines = [heads, marks, *([*labels, *map(_markdown_cell, cells)] for labels, cells in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table.caption}\n\n{body}\n\n{table.note}\n"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.bold else cell.text
    return f"{text} ({cell.interval})" if cell.interval else text


def as_csv(table: Table) -> str:
    """Write every digit: per metric its mean and interval, and p and verdict of a difference, or whether it is best."""
    compared = any(cell.p is not None for _, cells in table.rows for cell in cells)
    last = ("_p", "_verdict") if compared else ("_bold",)
    suffixes = ("", "_low", "_high", *last)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.heads, *(f"{metric.key}{suffix}" for metric in table.metrics for suffix in suffixes)])
    for labels, cells in table.rows:
        writer.writerow([*labels, *(value for cell in cells for value in _csv_values(cell, compared))])
    return text.getvalue()


def _csv_values(cell: Cell, compared: bool) -> list[str]:
    numbers = ["" if value != value else f"{value:.8g}" for value in cell.numbers or (float("nan"),) * 3]
    if compared:
        return [*numbers, "" if cell.p is None else f"{cell.p:.4g}", cell.verdict or ""]
    return [*numbers, str(cell.bold).lower()]
