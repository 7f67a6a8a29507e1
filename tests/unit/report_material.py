"""Make a small results folder with real clips and tables, in the formats of the workflow, for tests of the report."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from video_vae.cli import main
from video_vae.config import STAGES
from video_vae.data.storage import write_lossless, write_preview

SIDE = 64
FPS = 12.0
METRICS = ("psnr", "ssim", "lpips", "flolpips", "flicker")
DULLNESS = {"spatial": 0.10, "stage3": 0.16, "stage2": 0.20, "stage1": 0.26, "repeat": 0.42, "mean": 0.60}
RIVALS = {"sdvae": {"spatial": "their/vae"}, "theirs": {"videos": "their/videos"}}
STEPS = {"stage1": 120, "stage2": 80, "stage3": 30}
CONFIG: dict[str, Any] = {
    "experiment": "demo",
    "data": {"sources": ["clips"], "resolution": [SIDE, SIDE]},
    "spatial": {"pretrained": None},
    "stages": {name: {"steps": steps} for name, steps in STEPS.items()},
    "evaluation": {"bootstrap": 200},
    "report": {"title": "A small run", "question": "How well does it do?", "clips": 4},
}
OTHER = {"stages": {"stage1": {"identity_weight": 0.0}}}
RULEGRAPH = """Building DAG of jobs...
digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    node[shape=box, style=rounded, fontname=sans, fontsize=10, penwidth=2];
    edge[penwidth=2, color=grey];
        0[label = "all", color = "0.36 0.6 0.85", style="rounded"];
        1[label = "collect_metrics", color = "0.0 0.6 0.85", style="rounded"];
        2[label = "evaluate_clips", color = "0.05 0.6 0.85", style="rounded"];
        3[label = "reconstruct_clips", color = "0.1 0.6 0.85", style="rounded"];
        4[label = "train_stage2", color = "0.2 0.6 0.85", style="rounded"];
        5[label = "train_stage1", color = "0.3 0.6 0.85", style="rounded"];
        6[label = "prepare_manifest", color = "0.4 0.6 0.85", style="rounded"];
        1 -> 0
        2 -> 1
        3 -> 2
        4 -> 3
        6 -> 3
        5 -> 4
        6 -> 4
        6 -> 5
}
"""


def moving_clip(seed: int, frames: int) -> np.ndarray:
    """Film a window that pans over smooth random texture: uint8 (T,H,W,3)."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (14, 14, 3))
    texture = np.kron(coarse, np.ones((16, 16, 1)))
    for axis in (0, 1):
        texture = np.mean([np.roll(texture, shift, axis) for shift in range(-8, 9)], axis=0)
    texture[::9] *= 0.5
    path = [(2 * index % 100, 3 * index % 100) for index in range(frames)]
    return np.stack([texture[y : y + SIDE, x : x + SIDE] for y, x in path]).astype(np.uint8)


def dulled(frames: np.ndarray, amount: float, seed: int) -> np.ndarray:
    """Mix frames with their mean over time and noise, more of it the greater the amount: uint8 (T,H,W,3)."""
    noise = np.random.default_rng(seed).normal(0, 40 * amount, frames.shape)
    mixed = (1 - amount) * frames + amount * frames.mean(axis=0, keepdims=True) + noise
    return mixed.clip(0, 255).round().astype(np.uint8)


def frame_scores(original: np.ndarray, other: np.ndarray, amount: float) -> pd.DataFrame:
    """Score each frame: PSNR as defined, made-up but plausible figures for the others."""
    error = ((original.astype(float) - other) ** 2).mean(axis=(1, 2, 3))
    table = pd.DataFrame({"frame": range(len(original)), "mse": error / 255**2})
    table["psnr"] = -10 * np.log10(table["mse"].clip(lower=1e-10))
    table["ssim"] = 1 - 0.8 * amount - 0.02 * np.sin(table["frame"])
    table["lpips"] = 0.6 * amount + 0.02 * np.cos(table["frame"])
    table["flolpips"] = table["lpips"].where(table["frame"] < len(original) - 1) * 1.1
    table["flicker"] = (0.1 * amount + 0.01 * np.sin(3 * table["frame"])).where(table["frame"] > 0)
    return table


class Tree:
    """A results folder in the making."""

    def __init__(self, root: Path, clips: int, frames: int, experiments: tuple[str, ...]) -> None:
        self.root = root
        self.names = [f"clip_{index:02d}" for index in range(clips)]
        self.originals = {name: moving_clip(index, frames) for index, name in enumerate(self.names)}
        self.experiments = experiments
        self.rows: list[dict[str, Any]] = []

    def score(self, experiment: str, folder: str, variants: dict[str, float]) -> None:
        """Score variants of a stage or of the baselines, and store what the report shows: last stage and baselines."""
        base = self.root / experiment / folder
        parts = []
        for index, (name, original) in enumerate(self.originals.items()):
            stored = {} if folder in ("stage1", "stage2") else {"ori": original}
            for variant, amount in variants.items():
                worse = amount * (1 + 0.1 * index)
                other = dulled(original, worse, index)
                if stored:
                    stored[variant] = other
                parts.append(frame_scores(original, other, worse).assign(variant=variant, clip_id=name))
            for variant, pictures in stored.items():
                self.store(base, name, variant, pictures)
        frames = pd.concat(parts)
        (base / "metrics").mkdir(parents=True)
        frames.to_parquet(base / "metrics" / "frames.parquet")
        conditions: dict[str, Any] = {"spatial_sha256": "12" * 32, "flow": "dis", "lpips_sha256": {"alex": "34" * 32}}
        if "theirs" in variants:
            conditions |= {"lossless": False, "storage": {"theirs": "mp4 video as found, its coding losses included"}}
        (base / "metrics" / "summary.json").write_text(json.dumps({"conditions": conditions}), encoding="utf-8")
        clips = frames.groupby(["variant", "clip_id"])[[*METRICS]].mean().reset_index()
        clips.insert(2, "frames", len(next(iter(self.originals.values()))))
        clips.to_csv(base / "metrics" / "clips.csv", index=False)
        stage = "baseline" if folder == "baselines" else folder.split("/")[0]
        for group, rows in clips.groupby("variant"):
            self.rows.append({"experiment": experiment, "stage": stage, "variant": group, **self.summary(rows)})

    def store(self, base: Path, name: str, variant: str, frames: np.ndarray) -> None:
        """Write one clip without loss and as a preview."""
        write_lossless(base / f"reconstruction_{variant}" / f"{name}.mkv", frames, FPS)
        write_preview(base / "reconstruction_preview" / f"{name}_{variant}.mp4", frames, FPS)

    def summary(self, rows: pd.DataFrame) -> dict[str, Any]:
        """Make one row of metrics.csv."""
        values: dict[str, Any] = {"clips": len(rows), "frames": int(rows["frames"].sum())}
        for metric in METRICS:
            mean, spread = rows[metric].mean(), rows[metric].std() / len(rows) ** 0.5
            ends = {
                f"{metric}_std": rows[metric].std(),
                f"{metric}_low": mean - 2 * spread,
                f"{metric}_high": mean + 2 * spread,
            }
            values |= {metric: mean, **ends}
        said = {
            "flow": "dis",
            "resolution": f"{SIDE}x{SIDE}",
            "lpips_weights": "443c5bc3",
            "spatial_weights": "0123abcd",
        }
        return {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in values.items()} | said

    def tables(self) -> None:
        """Write metrics.csv and the tables of clips and rejected files."""
        pd.DataFrame(self.rows).to_csv(self.root / "metrics.csv", index=False)
        rows = []
        for index, name in enumerate([*self.names, "train_a", "train_b", "photo"]):
            kind = "image" if name == "photo" else "video"
            rows.append(
                {
                    "clip_id": name,
                    "path": f"clips/{name}.mp4",
                    "kind": kind,
                    "source_id": f"source_{index}",
                    "start_frame": 0,
                    "num_frames": 1 if kind == "image" else 40,
                    "height": 272,
                    "width": 640,
                    "fps": None if kind == "image" else FPS,
                    "aspect_ratio": 0.425,
                    "resolution": 272 * 640,
                    "text": "",
                    "split": "test" if name in self.names else "train",
                }
            )
        table = pd.DataFrame(rows)
        folder = self.root / "demo" / "data"
        folder.mkdir(parents=True)
        table.to_csv(folder / "manifest.csv", index=False)
        for part in ("train", "test"):
            table[table["split"] == part].to_csv(folder / f"{part}.csv", index=False)
        rejected = [
            ("clips/<broken>.mp4", "truncated", "moov atom not found"),
            ("clips/tiny.mp4", "too small", "32x32"),
        ]
        pd.DataFrame(rejected, columns=["path", "reason", "detail"]).to_csv(folder / "rejected.csv", index=False)


def write_log(path: Path, stage: str, offset: float) -> None:
    """Write a plausible log.jsonl with validations, checkpoints, a restart, and half a line at its end."""
    steps, pixels = STEPS[stage], stage == "stage3"
    generator = np.random.default_rng(len(stage))
    lines: list[dict[str, Any]] = [{"step": 0, "time": 0.0, "event": "start"}]
    for step in range(steps + 1):
        level = (0.3 + offset) * np.exp(-step / (0.3 * steps)) + 0.1
        if step % 10 == 0:
            lines.append(
                {"step": step, "time": 2.0 * step, "event": "valid", "l1": level, **_validation(level, pixels)}
            )
        if step == 0:
            continue
        if step == steps // 2:
            lines += [{"step": step, "time": 2.0 * step, "event": event} for event in ("checkpoint", "resume")]
        noise = float(generator.uniform(0.8, 1.25))
        line = {"step": step, "time": 2.0 * step, "event": "train", "loss": level * noise, "l1": level * noise}
        line |= {"reconstruction": 40 * level * noise, "kl": 4000 + 20 * step, "grad_norm": 0.9 * noise, "lr": 1e-4}
        line |= {"perceptual": 0.3 * level if pixels else 0.0, "identity": level if stage == "stage1" else 0.0}
        line |= {"frames": 17, "frames_per_s": 60 * noise, "data_s": 0.01, "forward_s": 0.2, "backward_s": 0.4}
        lines.append(line | {"optimizer_s": 0.02, "memory_gb": 2.1, "images": step % 5 == 0})
    lines.append({"step": steps, "time": 2.0 * steps, "event": "end"})
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 12', encoding="utf-8")


def _validation(level: float, pixels: bool) -> dict[str, float]:
    return {"psnr": 20 - 8 * np.log10(level)} if pixels else {"psnr_latent": 18 - 8 * np.log10(level)}


def write_records(root: Path, experiment: str) -> None:
    """Write run.json of each stage, and benchmark files."""
    for stage in STAGES:
        record = {
            "command": "train",
            "arguments": ["{}", "--stage", stage],
            "start": "2026-01-01T10:00:00+00:00",
            "end": "2026-01-01T10:10:00+00:00",
            "seconds": 2.5 * STEPS[stage],
            "seed": 0,
            "world_size": 1,
            "threads": 2,
            "lpips_sha256": "cd" * 32 if stage == "stage3" else None,
            "inputs": {"train": {"path": "train.csv", "sha256": "ab" * 32}},
            "code": {"commit": "0123456789abcdef", "dirty": False},
            "python": "3.11.7",
            "packages": {"torch": "2.14.1"},
            "hardware": {"processor": "A processor", "cores": 2},
        }
        (root / experiment / stage / "run.json").write_text(json.dumps(record), encoding="utf-8")
        folder = root / "benchmarks" / experiment
        folder.mkdir(parents=True, exist_ok=True)
        text = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
        text += f"{2.5 * STEPS[stage]}\t0:05:00\t2100.5\t5000\t2000\t2050\t10\t-\t180.5\t500.25\n"
        (folder / f"train_{stage}.tsv").write_text(text, encoding="utf-8")


def write_spatial_record(folder: Path) -> None:
    """Write the run.json of a small spatial VAE's training."""
    folder.mkdir(parents=True)
    log = [{"step": step, "psnr": 20 + step / 100, "l1": 0.2 - step / 10_000} for step in range(100, 1001, 100)]
    record = {"command": "train-spatial", "seconds": 3700.0, "seed": 0, "psnr": 30.0, "log": log}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def make_results(
    root: Path,
    *,
    clips: int = 3,
    frames: int = 20,
    experiments: tuple[str, ...] = ("demo",),
    rivals: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Write a whole results folder; return the config that it belongs to."""
    tree = Tree(root, clips, frames, experiments)
    for place, experiment in enumerate(experiments):
        for stage in STAGES:
            variants = {"rec": DULLNESS[stage] * (1 + 0.2 * place), "spatial": DULLNESS["spatial"]}
            tree.score(experiment, stage, variants)
            write_log(root / experiment / stage / "log.jsonl", stage, 0.1 * place)
        write_records(root, experiment)
    write_spatial_record(root / experiments[0] / "spatial")
    tree.score(experiments[0], "baselines", {name: DULLNESS[name] for name in ("mean", "repeat")})
    for name, amount in (rivals or {}).items():
        tree.score(experiments[0], f"compare/{name}", {name: amount})
    tree.tables()
    (root / "graph.dot").write_text(RULEGRAPH, encoding="utf-8")
    compare = {"compare": {name: RIVALS[name] for name in rivals}} if rivals else {}
    return CONFIG | {"experiments": dict.fromkeys(experiments[1:], OTHER)} | compare


def add_scored_clips(root: Path, count: int) -> None:
    """Add clips that are scored after every stage, but of which no frame is stored."""
    generator = np.random.default_rng(1)
    names = [f"more_{index:04d}" for index in range(count)]
    for folder in sorted(root.glob("*/*/metrics")):
        for path, read, write in (
            ("clips.csv", pd.read_csv, lambda table, to: table.to_csv(to, index=False)),
            ("frames.parquet", pd.read_parquet, lambda table, to: table.to_parquet(to)),
        ):
            table = read(folder / path)
            pattern = table[table["clip_id"] == table["clip_id"].iloc[0]]
            more = pd.concat([pattern] * count, ignore_index=True)
            more["clip_id"] = np.repeat(names, len(pattern))
            scatter = generator.normal(0, 0.05, (count, 1)).repeat(len(pattern), axis=0)
            more[[*METRICS]] *= 1 + scatter
            write(pd.concat([table, more], ignore_index=True), folder / path)
    for path in ("manifest.csv", "test.csv"):
        table = pd.read_csv(root / "demo" / "data" / path)
        more = pd.concat([table.iloc[[0]]] * count, ignore_index=True)
        more["clip_id"] = names
        pd.concat([table, more]).to_csv(root / "demo" / "data" / path, index=False)


def built_config() -> dict[str, Any]:
    """Give the config of the report that `built_report` makes."""
    return CONFIG | {"experiments": {"no_identity": OTHER}}


@functools.cache
def built_report(folder: Path) -> tuple[Path, Path]:
    """Make a results folder with two experiments and its report, once for all tests: page and results."""
    results = folder / "results"
    assert make_results(results, experiments=("demo", "no_identity")) == built_config()
    page = folder / "reports" / "report.html"
    build_report(built_config(), results, page, "--rulegraph", str(results / "graph.dot"))
    return page, results


def build_report(config: dict[str, Any], results: Path, page: Path, *options: str) -> str:
    """Run the subcommand and return the page's text."""
    arguments = [json.dumps(config), "--results", str(results), "--output", str(page), *options]
    assert main(["report", *arguments]) == 0
    return page.read_text(encoding="utf-8")
