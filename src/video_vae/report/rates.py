"""Rate and distortion: what codecs and quantised latents cost in bits per pixel, and how close they come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from video_vae.config.rivals import CODEC_BITS
from video_vae.data.windows import clip_and_start
from video_vae.report.compare import rival_rows
from video_vae.report.style import colour, drawing, new_figure
from video_vae.report.tables import COMPARE, Results
from video_vae.report.terms import METRICS, counted, number, variant_label

RATE = "bits per pixel"
REFERENCE = (
    "A codec is a reference, not a goal: it searches each clip for the best way to write it, while latents are made "
    "for other models to generate. Nets that are small or trained for a short time lose to it."
)


@dataclass(frozen=True, kw_only=True)
class Points:
    """Means over clips of one row: a codec at its settings, or latents at so many bits per number."""

    name: str
    curve: pd.DataFrame
    """Sorted by bits: setting, bpp (entropy-coded bits per pixel), raw_bpp (fixed length; 0 for a codec), psnr (dB)."""


@dataclass(frozen=True, kw_only=True)
class CodecPoints(Points):
    """A codec, and how its row of metrics.csv was coded."""

    stored: pd.Series
    """That row: as the curve, and `budget`, in bits per pixel."""
    over: int
    """Windows that took more bits than they were allowed: the codec has nothing coarser."""


def codec_points(results: Results) -> list[CodecPoints]:
    """Read what was measured of the rivals that are codecs."""
    found = []
    for row in rival_rows(results):
        if results.config.compare[row.variant].codec is None:
            continue
        table = _read(results.folder(row.experiment, COMPARE, row.variant))
        if not table.empty:
            chosen = table[table["budget"] > 0]
            found.append(
                CodecPoints(
                    name=row.variant,
                    curve=_means(table[table["budget"] == 0]),
                    stored=_means(chosen.assign(setting=0)).iloc[0],
                    over=int((chosen["bits"] > chosen["budget"]).sum()),
                )
            )
    return found


def net_points(results: Results) -> Points | None:
    """Read what was measured of the quantised latents of the base run; None where nothing was."""
    base = results.experiments[0]
    final = results.final_stage(base)
    table = pd.DataFrame() if final is None else _read(results.folder(base, final, "rec"))
    return None if table.empty else Points(name="rec", curve=_means(table))


def _read(folder: Path) -> pd.DataFrame:
    files = sorted((folder / "reconstruction").glob("*rates.csv"))
    tables = [pd.read_csv(file, dtype={"clip_id": str}) for file in files]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Average windows within clips, then clips, as the metrics are."""
    names = set(table["clip_id"])
    rates = {f"{name}bpp": table[f"{name}bits"] / table["pixels"] for name in ("", "raw_")}
    rates["budget"] = table["budget"] / table["pixels"]
    table = table.assign(clip=[clip_and_start(name, names)[0] for name in table["clip_id"]], **rates)
    values = ["bpp", "raw_bpp", "budget", "psnr"]
    clips = table.groupby(["setting", "clip"])[values].mean()
    return clips.groupby("setting").mean().reset_index().sort_values("bpp", ignore_index=True)


def rate_section(results: Results, save: Any) -> dict[str, Any] | None:
    """Give the figure and what it says; None where nothing was measured.

    Args:
        results: of the run.
        save: takes name, figure and description, gives it as inline SVG.
    """
    codecs, net = codec_points(results), net_points(results)
    if not codecs and net is None:
        return None
    text = "PSNR against bits per pixel: codecs as curves, the video VAE with its latents quantised as points"
    return {
        "figure": save("rate_distortion", rate_figure(codecs, net, _unquantised(results)), text),
        "says": [*([] if net is None else [_net_text(net)]), *(_codec_text(points, net) for points in codecs)],
        "reference": REFERENCE if codecs else "",
    }


def _unquantised(results: Results) -> float | None:
    base = results.experiments[0]
    row = results.row(base, results.final_stage(base) or "", "rec")
    return None if row is None or pd.isna(row.get("psnr")) else float(row["psnr"])


def _net_text(net: Points) -> str:
    rows = net.curve.sort_values("setting", ascending=False)
    parts = [
        f"{bits:.0f} bits per number {number(raw, 4)} {RATE} at a fixed length, {number(coded, 4)} entropy-coded "
        f"({number(psnr)} dB)"
        for bits, raw, coded, psnr in zip(rows["setting"], rows["raw_bpp"], rows["bpp"], rows["psnr"], strict=True)
    ]
    return f"The latents take at {'; at '.join(parts)}."


def _codec_text(points: CodecPoints, net: Points | None) -> str:
    stored = points.stored
    text = (
        f"{points.name} takes {number(stored.bpp, 4)} {RATE} of the {number(stored.budget, 4)} that latents of "
        f"{CODEC_BITS} bits per number have at a fixed length, and reaches {number(stored.psnr)} dB"
    )
    if points.over:
        text += f"; {counted(points.over, 'window')} took more than allowed even at its coarsest"
    same = None if net is None else net.curve[net.curve["setting"] == CODEC_BITS]
    if same is not None and len(same):
        at = _at(points.curve, float(same["bpp"].iloc[0]))
        text += "" if at is None else f". At the bits of the entropy-coded latents its curve has {number(at)} dB"
        taken = float(same["raw_bpp"].iloc[0])
        if abs(taken / stored.budget - 1) > 0.1:
            text += f"; the model's latents took {number(taken, 4)}, other than the config says"
    return f"{text}."


def _at(curve: pd.DataFrame, bpp: float) -> float | None:
    """Read a curve at a rate, linearly between its points; None beyond its ends."""
    rows = curve.sort_values("bpp")
    below, above = rows[rows["bpp"] <= bpp], rows[rows["bpp"] >= bpp]
    if below.empty or above.empty:
        return None
    low, high = below.iloc[-1], above.iloc[0]
    share = 0.0 if high.bpp == low.bpp else (bpp - low.bpp) / (high.bpp - low.bpp)
    return float(low.psnr + share * (high.psnr - low.psnr))


def rate_figure(codecs: list[CodecPoints], net: Points | None, unquantised: float | None) -> Figure:
    """Draw PSNR against bits per pixel (logarithmic): codecs as lines, latents as points, open at a fixed length."""
    with drawing():
        figure = new_figure(3.0)
        axes = figure.subplots()
        for points in codecs:
            tint = colour(points.name)
            axes.plot(points.curve["bpp"], points.curve["psnr"], color=tint, marker=".", ms=4, label=points.name)
            axes.plot(points.stored.bpp, points.stored.psnr, "D", color=tint, ms=5)
        if net is not None:
            tint = colour("rec")
            axes.plot(
                net.curve["bpp"], net.curve["psnr"], "o", color=tint, ms=5, label=f"{variant_label('rec')}, coded"
            )
            axes.plot(
                net.curve["raw_bpp"],
                net.curve["psnr"],
                "o",
                color=tint,
                ms=5,
                mfc="none",
                label="the same, fixed length",
            )
            for bits, rate, psnr in net.curve[["setting", "bpp", "psnr"]].to_numpy().tolist():
                axes.annotate(f"{bits:.0f}", (rate, psnr), xytext=(-3, 4), textcoords="offset points", fontsize=7)
        if unquantised is not None:
            axes.axhline(unquantised, color=colour("rec"), lw=0.8, ls=(0, (4, 3)))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.3g}"))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("Bits per pixel")
        axes.set_ylabel(f"PSNR, {METRICS['psnr'].unit}")
        axes.legend(loc="best", handlelength=1.4)
    return figure
