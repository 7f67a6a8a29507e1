"""Refuse LaTeX that would not compile, or would mean something else, where no LaTeX is at hand."""

from __future__ import annotations

import re

import numpy as np

COMMANDS = {
    *("begin", "end", "centering", "caption", "label", "setlength", "tabcolsep", "par", "smallskip", "footnotesize"),
    *("toprule", "midrule", "bottomrule", "scriptsize", "textbf", "uparrow", "downarrow", "times"),
    *("textbackslash", "textasciitilde", "textasciicircum"),
}


def check_latex(text: str) -> None:
    """Refuse what LaTeX would: unknown commands, unbalanced groups, rows of other widths, marks that mean something."""
    assert text.isascii()
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= COMMANDS
    bare = re.sub(r"\\.", "", body)
    depth = np.cumsum([{"{": 1, "}": -1}.get(mark, 0) for mark in bare])
    assert depth.min() >= 0 and depth[-1] == 0 and bare.count("$") % 2 == 0
    assert not set("#%^~_") & set(re.sub(r"\\label\{.*?\}", "", bare))
    places = re.findall(r"\\(begin|end)\{([\w*]+)\}", body)
    assert places == [("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("end", "table*")]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)
    rows = [line for line in lines if re.search(r"\\\\(\[\w+\])?$", line)]
    assert columns is not None and rows
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {len(columns[1])}
    assert not any(re.search(r"(?<!\\)&", line) for line in lines if line not in rows)
