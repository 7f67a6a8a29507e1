"""The model card of an exported model: README.md with the Hugging Face hub's metadata, from what the run recorded."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from video_vae import __version__
from video_vae.config import Config
from video_vae.config.sizes import size_text
from video_vae.errors import UserError
from video_vae.files import spellings
from video_vae.provenance import RECORD
from video_vae.report.terms import METRICS, stage_label, variant_label

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
UNKNOWN_LICENCE = "unknown"
USE = {
    "diffusers": """\
```python
import torch
from video_vae.models import VideoAutoencoderKL

vae = VideoAutoencoderKL.from_pretrained("{folder}").eval().requires_grad_(False)
latents = vae.encode_latents(torch.zeros(1, 3, 17, {height}, {width}))  # (B, 3, T, H, W) in [-1, 1]
video = vae.decode_latents(latents, num_frames=17)
```

The class is in the package `video_vae`; the image VAE of diffusers, `AutoencoderKL`, refuses this folder. Pipelines
call `vae.encode(x).latent_dist` and `vae.decode(z).sample`.""",
    "onnx": """\
```python
import numpy
import onnxruntime

encoder = onnxruntime.InferenceSession("{folder}/encoder.onnx")
decoder = onnxruntime.InferenceSession("{folder}/decoder.onnx")
video = numpy.zeros((1, 3, {frames}, {height}, {width}), numpy.float32)  # in [-1, 1]
(latents,) = encoder.run(None, {{"video": video}})  # normalised by channel, the mode
(again,) = decoder.run(None, {{"latents": latents}})
```

The files take clips of {frames} frames of {height}x{width} pixels, one at a time, and nothing else.""",
    "open-sora": """\
One file with the names of the Open-Sora VAE v1.2, which says itself what net it is of. It becomes a model folder again:

```bash
video-vae import {folder} --output model
```""",
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a model: the records of the stages that led to it, and its scores."""

    records: Sequence[Mapping[str, Any]]
    """run.json of each stage, the last one first; empty where nothing is recorded."""
    scores: Sequence[Mapping[str, str]]
    """Its rows of metrics.csv, every cell as text."""


def trace(model: Path, metrics: Path | None = None) -> Origin:
    """Find the records of a model folder's run, from its stage back to the first one, and its scores.

    Args:
        model: `results/<run>/<stage>/model`; a folder elsewhere has no record.
        metrics: table of scores; `metrics.csv` of the results folder where it is not given.

    Raises:
        UserError: if a record or the table that was given cannot be read.
    """
    if metrics is not None and not metrics.is_file():
        raise UserError(f"--metrics {metrics}: no such file; give the metrics.csv of the run, or leave the option out")
    stages = [place.parent for place in spellings(model)]
    stage = next((folder for folder in stages if (folder / RECORD).is_file()), stages[0])
    records = list(_records(stage))
    table = metrics or stage.parent.parent / "metrics.csv"
    if not records or not table.is_file():
        return Origin(records=records, scores=[])
    with table.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("stage") == records[0].get("stage")]
    own = [row for row in rows if row.get("experiment") == records[0].get("experiment")]
    return Origin(records=records, scores=own)


def _records(stage: Path) -> Iterator[dict[str, Any]]:
    """Read the record of a stage's folder, then those of the stages before it."""
    while (stage / RECORD).is_file():
        try:
            record = json.loads((stage / RECORD).read_text(encoding="utf-8"))
            before = Path(record["inputs"]["init_from"]["path"]) if "init_from" in record["inputs"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{stage / RECORD} is not the record of a run ({error!r}); train again") from None
        if record.get("command") != "train":  # what the first stage started with
            return
        yield record
        if before is None:
            return
        stage = _stage_before(stage, before)


def _stage_before(stage: Path, model: Path) -> Path:
    """Find the folder of the stage that a stage began from, `results/<run>/<stage>/model` as the workflow names it.

    The results may have been moved or be known by a link: then the folder beside this stage's is meant.
    """
    results = stage.parent.parent
    places = [results.parent / model, results.joinpath(*model.parts[-3:])]
    return next((place.parent for place in places if (place.parent / RECORD).is_file()), places[0].parent)


def write_card(
    path: Path,
    origin: Origin,
    *,
    name: str,
    form: str,
    licence: str,
    config: Config,
    weights: Mapping[str, str],
    shape: tuple[int, int, int] | None = None,
) -> ModelCard:
    """Write the card of an exported folder and read it back by the hub's own rules, as far as they work offline.

    Args:
        path: the file to write, README.md where the hub is to show it.
        origin: what is known of the model.
        name: of the model.
        form: `diffusers`, `open-sora` or `onnx`.
        licence: of the weights, as the hub writes it.
        config: the run's settings; the defaults where nothing is recorded.
        weights: file -> sha256 of what was exported.
        shape: frames, height and width of the clips that `Use` shows [17, as the config says].

    Raises:
        UserError: if the licence is no identifier, or the card would not be understood.
    """
    if not LICENCE.fullmatch(licence):
        known = "apache-2.0, cc-by-nc-4.0 or other"
        raise UserError(f"--license {licence!r} is not an identifier of the hub, such as {known}")
    data = _metadata(origin, name=name, licence=licence, config=config)
    frames, height, width = shape or (17, *config.data.resolution)
    use = USE[form].format(folder=path.parent.name, frames=frames, height=height, width=width)
    body = "\n\n".join([f"# {name}", _summary(config), *_sections(origin, config, use, licence, weights)])
    path.write_text(_sealed(f"---\n{data.to_yaml()}\n---\n\n{body}\n"), encoding="utf-8")
    return check_card(path)


def is_own_card(path: Path) -> bool:
    """Tell whether a card is as `write_card` wrote it: one that somebody edited is theirs."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = _SEAL.search(text)
    return found is not None and _sealed(text[: found.start()]) == text


_SEAL = re.compile(r"\n<!-- written by video-vae export, sha256 of the text above: [0-9a-f]{64} -->\n\Z")


def _sealed(text: str) -> str:
    """Add a line, which pages do not show, by which an unchanged card is known."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text}\n<!-- written by video-vae export, sha256 of the text above: {digest} -->\n"


def check_card(path: Path) -> ModelCard:
    """Read a card as the hub's client does: its YAML, its scores, its licence, the name of a base model.

    The hub's server checks the same card once more when it is pushed (`ModelCard.validate`), which needs a network.

    Raises:
        UserError: if any of it is not understood.
    """
    try:
        card = ModelCard.load(path)
        if not LICENCE.fullmatch(str(card.data.license)):
            raise ValueError(f"license is {card.data.license!r}")
        if card.data.base_model:
            validate_repo_id(card.data.base_model)
    except (ValueError, TypeError, KeyError, HFValidationError) as error:
        raise UserError(f"{path} is not a valid model card: {' '.join(str(error).split())}; export again") from None
    return card


def _metadata(origin: Origin, *, name: str, licence: str, config: Config) -> ModelCardData:
    results = [result for row in origin.scores if row["variant"] == "rec" for result in _results(row, config)]
    hub = config.spatial.pretrained or ""
    return ModelCardData(
        license=licence,
        library_name="video-vae",
        tags=["video", "vae", "autoencoder", "video-compression"],
        base_model=hub if origin.records and hub and config.spatial.place is None else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _results(row: Mapping[str, str], config: Config) -> Iterator[EvalResult]:
    for metric in METRICS.values():
        if row.get(metric.key):
            low, high = row.get(f"{metric.key}_low"), row.get(f"{metric.key}_high")
            interval = f", 95 % interval {low} to {high}" if low and high else ""
            yield EvalResult(
                task_type="video-reconstruction",
                task_name="Reconstruction of held-out clips",
                dataset_type="video",
                dataset_name=f"{row['clips']} held-out clips of the run {row['experiment']}, {row['resolution']}",
                metric_type=metric.key,
                metric_name=f"{metric.label}{', ' if metric.unit else ''}{metric.unit}{interval}",
                metric_value=float(row[metric.key]),
            )


def _summary(config: Config) -> str:
    temporal = 2 ** sum(config.model.temporal.temporal_downsample)
    return (
        f"A video VAE that compresses {temporal}x8x8 into 4 channels: a spatial VAE frame by frame, then a causal "
        f"temporal VAE, after the Open-Sora 1.2 report. Made with video-vae {__version__}."
    )


def _sections(origin: Origin, config: Config, use: str, licence: str, weights: Mapping[str, str]) -> Iterator[str]:
    yield f"## Use\n\n{use}"
    yield f"## Scores\n\n{_scores(origin.scores)}"
    yield f"## Data\n\n{_data(origin, config)}"
    yield f"## Recipe\n\n{_recipe(origin.records)}"
    yield f"## Weights\n\n{_weights(origin.records, weights)}"
    said = "not said by whoever exported it; ask before you use it" if licence == UNKNOWN_LICENCE else f"`{licence}`"
    yield f"## Licence\n\nOf these weights: {said}. Clips and weights that they were made from keep their own."
    yield f"## Limits\n\n{_limits(origin, config)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _scores(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return "Not measured, or no `metrics.csv` was found."
    metrics = [metric for metric in METRICS.values() if rows[0].get(metric.key)]
    cells = []
    for row in rows:
        values = [f"{row[m.key]} ({row[f'{m.key}_low']} to {row[f'{m.key}_high']})" for m in metrics]
        cells.append([variant_label(row["variant"]), *values])
    first = rows[0]
    conditions = f"{first['clips']} held-out clips, {first['frames']} frames at {first['resolution']}"
    if first.get("flow"):
        conditions += f"; optical flow of FloLPIPS: {first['flow']}"
    if first.get("protocol"):
        conditions += f"; protocol {first['protocol']}"
    table = _table(["reconstruction", *(metric.axis for metric in metrics)], cells)
    return f"Means over clips with 95 % intervals over sources. {conditions}.\n\n{table}"


def _data(origin: Origin, config: Config) -> str:
    if not origin.records:
        return "Not recorded: this model was not trained in the folder that it was exported from."
    last = origin.records[0]
    sizes = " or ".join(map(size_text, last.get("sizes") or [config.data.resolution]))
    tables = [
        f"`{Path(part['path']).name}` sha256 `{part['sha256']}`"
        for key, part in last["inputs"].items()
        if key in ("train", "valid")
    ]
    every = "" if config.data.fps is None else f", resampled to {config.data.fps:g} frames per second"
    every += f", every {config.data.frame_interval} frames" if config.data.frame_interval > 1 else ""
    shared = last.get("not_held_out_by_source")
    held_out = f"{last.get('held_out_clips', '?')} held out"
    if shared:
        held_out += f" (not held out by source: {shared} of them come from files that are also trained on)"
    return (
        f"{last.get('clips', '?')} training clips and images, {held_out}, seen at "
        f"{sizes} pixels{every}. Tables of the clips: {', '.join(tables)}."
    )


def _recipe(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "Not recorded."
    rows = []
    for record in reversed(records):
        stage = record["config"]["stages"][record["stage"]]
        trained = "all" if stage["train_spatial"] else "temporal VAE"
        names = ("reconstruction", "kl", "identity", *(["perceptual"] if stage["objective"] == "pixels" else []))
        losses = {name: stage[f"{name}_weight"] for name in names}
        said = ", ".join(f"{name} {weight:g}" for name, weight in losses.items() if weight)
        frames = " to ".join(dict.fromkeys(map(str, stage["frames"])))  # one number where both ends are the same
        machine = ", ".join(record["hardware"]["gpus"]) or record["hardware"]["processor"]
        seconds = f"{record.get('trained_seconds', record['seconds']):.0f} s on {record['world_size']} x {machine}"
        rows.append(
            [
                stage_label(record["stage"]),
                trained,
                record["steps"],
                stage["global_batch"],
                frames,
                said,
                f"{stage['learning_rate']:g}",
                stage["precision"],
                seconds,
            ]
        )
    header = [
        "stage",
        "trained",
        "steps",
        "clips per step",
        "frames",
        "loss weights",
        "learning rate",
        "precision",
        "time",
    ]
    code = records[0]["code"]
    made = f"Seed {records[0]['seed']}; code: commit `{code.get('commit') or 'none'}`, sources `{code['sources']}`."
    return f"{_table(header, rows)}\n\n{made}"


def _weights(records: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> str:
    rows: list[Sequence[object]] = [[f"`{name}`", "this model", f"`{digest}`"] for name, digest in files.items()]
    for record in reversed(records):
        for key, what in (("spatial", "spatial VAE to start from"), ("init_from", "model to start from")):
            if key in record["inputs"] and (key == "init_from" or record is records[-1]):
                part = record["inputs"][key]
                stage = stage_label(record["stage"]).lower()
                rows.append([f"`{_shown(part['path'])}`", f"{what}, {stage}", f"`{part['sha256']}`"])
    return _table(["file or folder", "what", "sha256"], rows)


def _shown(path: str) -> str:
    """Name what was read: a path of the project's folder as it is, another one by its name alone."""
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else path


def _limits(origin: Origin, config: Config) -> str:
    lines = ["Height and width must be multiples of 8; what the net was not trained on, it may render badly."]
    if config.model.chunk_frames:
        lines.append(f"Clips are encoded in independent chunks of {config.model.chunk_frames} frames.")
    if origin.scores:
        few = f"The scores say how {origin.scores[0]['clips']} clips are reconstructed under the conditions above"
        lines.append(f"{few}, and are not comparable with scores of other clips or sizes.")
        if origin.scores[0].get("flow") == "dis":
            lines.append("FloLPIPS was computed with DIS flow and is not comparable with published FloLPIPS (PWC-Net).")
    lines.append("It reconstructs what it is given; it does not generate, and was not tested for bias or safety.")
    return "\n".join(f"- {line}" for line in lines)
