"""Tables for a paper compile, are bold only where a difference is a verdict, and hold the numbers of the report."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latex_check import check_latex
from report_material import build_report, make_results
from video_vae.config import parse_config
from video_vae.errors import UserError
from video_vae.report.paper_formats import Cell, Table, as_latex, latex_text
from video_vae.report.paper_tables import EMPTY, paper_tables, write_tables
from video_vae.report.sections import metrics_table, protocol_names
from video_vae.report.tables import Results, load_results
from video_vae.report.terms import METRICS

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\setlength{\textwidth}{487pt}  %% both columns of a conference's page
\begin{document}
%s
\end{document}
"""
NASTY = "a_b & 50 % of #1 $x$ {y} \\z ~ ^ < > − × – é"


def compile_latex(folder: Path, texts: list[str]) -> None:
    """Compile a document of tables where this machine has LaTeX with booktabs."""
    kpsewhich = shutil.which("kpsewhich")
    if kpsewhich is None or subprocess.run([kpsewhich, "booktabs.sty"], capture_output=True, check=False).returncode:
        return
    (folder / "all.tex").write_text(DOCUMENT % "\n".join(texts), encoding="ascii")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def scored(folder: Path, gaps: dict[str, float], clips: int = 20) -> Results:
    """Write scores of a run and an experiment, whose stage 3 differs: `gaps` are what PSNR is above 25 dB."""
    generator = np.random.default_rng(0)
    hard, rows = generator.normal(0, 2, clips), []
    for name, gap in gaps.items():
        experiment, stage, variant = name.split("/")
        values = 25 + gap + hard + generator.normal(0, 0.05, clips)
        table = pd.DataFrame(
            {"variant": variant, "clip_id": [f"c{i}" for i in range(clips)], "frames": 9, "psnr": values}
        )
        place = folder / experiment / ("baselines" if stage == "baseline" else stage) / "metrics" / "clips.csv"
        place.parent.mkdir(parents=True, exist_ok=True)
        before = [pd.read_csv(place)] if place.is_file() else []
        pd.concat([*before, table.assign(ssim=0.9)]).to_csv(place, index=False)
        said = {"experiment": experiment, "stage": stage, "variant": variant, "clips": clips, "frames": 9 * clips}
        said["protocol"] = "wf-vae, modified: frames 9 instead of 33"
        rows.append(said | {"psnr": values.mean(), "psnr_low": values.min(), "psnr_high": values.max(), "ssim": 0.9})
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    config = {"experiment": "demo", "experiments": {"no_kl": {"stages": {"stage3": {"kl_weight": 0.0}}}}}
    return load_results(parse_config(config), folder)


RUN = {"demo/stage2/rec": 0.0, "no_kl/stage2/rec": 0.0, "demo/stage3/rec": 1.0, "no_kl/stage3/rec": 2.0}
RUN |= {"demo/stage3/spatial": 3.0, "demo/baseline/repeat": 0.5, "demo/baseline/mean": 0.0}


def bold(results: Results, name: str, metric: str) -> list[str]:
    table = paper_tables(results)[name]
    place = [one.key for one in table.metrics].index(metric)
    return [" ".join(labels) for labels, cells in table.rows if cells[place].bold]


def test_the_tables_of_a_report_compile(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=("demo", "no_identity"))
    build_report(config, tmp_path / "results", tmp_path / "reports/report.html")
    files = sorted(file.name for file in (tmp_path / "reports/tables").iterdir())
    assert files == sorted(
        f"{name}.{end}" for name in ("main", "experiments", "differences") for end in ("csv", "md", "tex")
    )
    texts = [file.read_text(encoding="utf-8") for file in sorted((tmp_path / "reports/tables").glob("*.tex"))]
    for text in texts:
        check_latex(text)
        assert "2 held-out clips from 2 sources; up to 3 windows of 33 frames of each" in text
        assert "Student's t, corrected for skewness, over sources" in text and "textbf" not in text
    compile_latex(tmp_path, texts)
    one = make_results(tmp_path / "one", clips=1, frames=4)
    build_report(one, tmp_path / "one", tmp_path / "page/report.html")
    assert "1 held-out clip from 1 source; up to" in (tmp_path / "page/tables/main.md").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "reports/report.run.json").read_text())
    assert "main.tex" in record["outputs"]["tables"]["files"]


def test_any_text_is_printed(tmp_path: Path) -> None:
    cells = [Cell(text="−0.5", interval="−1 to 2", bold=True), Cell()]
    metrics = [METRICS["psnr"], METRICS["ssim"]]
    text = as_latex(Table(caption=NASTY, heads=[NASTY], metrics=metrics, rows=[([NASTY], cells)], note=NASTY), "tab:x")
    check_latex(text)
    compile_latex(tmp_path, [text])
    assert latex_text("é") == "?"


def test_bold_is_the_best_that_differs_from_all_others(tmp_path: Path) -> None:
    results = scored(tmp_path / "clear", RUN)
    assert "protocol wf-vae, modified: frames 9 instead of 33." in paper_tables(results)["main"].note
    assert ("protocol", "wf-vae, modified: frames 9 instead of 33") in metrics_table(results)["conditions"]
    results.metrics_text.loc[results.metrics_text["experiment"] == "no_kl", "protocol"] = "davis"
    assert (
        protocol_names(results, ["demo", "no_kl"]) == "wf-vae, modified: frames 9 instead of 33 (demo), davis (no_kl)"
    )
    assert (
        "davis" not in paper_tables(results)["main"].note
        and "davis (no_kl)" in paper_tables(results)["experiments"].note
    )
    assert bold(results, "main", "psnr") == ["Spatial VAE alone"]
    assert bold(results, "main", "ssim") == []  # all the same
    assert bold(results, "experiments", "psnr") == ["no_kl Stage 3"]
    close = scored(tmp_path / "close", RUN | {"demo/stage3/rec": 2.97, "no_kl/stage3/rec": 2.97})
    assert bold(close, "main", "psnr") == bold(close, "experiments", "psnr") == []
    few = scored(tmp_path / "few", RUN, clips=19)
    assert (
        bold(few, "main", "psnr") == [] and "Nothing is bold: that takes 20 sources." in paper_tables(few)["main"].note
    )


def test_a_table_without_rows_says_so_and_states_no_clips(tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=4, experiments=("demo",))
    tables = paper_tables(load_results(parse_config(config), tmp_path / "results"))
    assert tables["experiments"].rows == [] and tables["experiments"].note == EMPTY
    text = as_latex(tables["experiments"], "tab:experiments")
    check_latex(text)
    compile_latex(tmp_path, [text])


def test_shared_stages_are_left_out_and_differences_are_paired(tmp_path: Path) -> None:
    results = scored(tmp_path / "results", RUN)
    write_tables(results, tmp_path / "tables")
    with (tmp_path / "tables/experiments.csv").open(encoding="utf-8") as stream:
        experiments = list(csv.DictReader(stream))
    assert [(row["experiment"], row["after"], row["psnr_bold"]) for row in experiments] == [
        ("demo", "Stage 3", "false"), ("no_kl", "Stage 3", "true"),
    ]  # fmt: skip
    assert float(experiments[1]["psnr"]) == pytest.approx(results.metrics.loc[3, "psnr"], rel=1e-6)
    with (tmp_path / "tables/differences.csv").open(encoding="utf-8") as stream:
        differences = list(csv.DictReader(stream))
    last = differences[-1]
    assert (last["first"], last["second"]) == ("Video VAE, stage 3 (no_kl)", "Video VAE, stage 3 (demo)")
    assert last["psnr_verdict"] == "better" and float(last["psnr_low"]) < float(last["psnr"]) < float(last["psnr_high"])
    assert last["ssim_verdict"] == "no significant difference"
    page = (tmp_path / "tables/differences.md").read_text(encoding="utf-8")
    assert page.count("\n| ") == 2 + len(differences) and "comparisons of this table" in page


def test_a_run_without_scores_gives_tables_that_compile(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    files = write_tables(load_results(parse_config({}), tmp_path / "results"), tmp_path / "tables")
    texts = [file.read_text(encoding="utf-8") for file in files if file.suffix == ".tex"]
    for text in texts:
        check_latex(text)
    compile_latex(tmp_path, texts)


def test_a_table_of_others_stays(tmp_path: Path) -> None:
    results = scored(tmp_path / "results", RUN)
    for _ in range(2):  # its own files are replaced
        files = write_tables(results, tmp_path / "tables")
    for file in files:
        own = file.read_bytes()
        file.write_text("mine, and nobody else has it\n")
        with pytest.raises(UserError, match=file.name):
            write_tables(results, tmp_path / "tables")
        file.write_bytes(own)
