"""A finished run opened for looking: its tables as in the report, its held-out clips, and its last stage's model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from video_vae.config import load_config
from video_vae.config.files import is_json_text
from video_vae.config.runs import data_owner, stage_owner
from video_vae.data.open_table import read_table
from video_vae.data.sampling import Sampling
from video_vae.data.storage import write_preview
from video_vae.data.table import Clip
from video_vae.data.transform import resize_crop, to_tensor, to_uint8
from video_vae.data.video import read_clip
from video_vae.distributed.device import pick_device
from video_vae.errors import UserError
from video_vae.models import VideoAutoencoderKL
from video_vae.report.compare import Row, differences, experiment_pairs, main_pairs
from video_vae.report.sections import difference_table, ordered_metrics
from video_vae.report.tables import Results, load_results
from video_vae.report.terms import METRICS, MISSING, Metric, number
from video_vae.weights.loading import load_video_vae

LONGEST = 33
"""Frames taken of a clip where nothing else is said: enough to see, quick on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a run left behind."""

    folder: Path
    """Folder in which the run's relative paths hold."""
    experiment: str
    results: Results
    model: VideoAutoencoderKL
    """The video VAE of the last stage, for inference."""
    clips: dict[str, Clip]
    """Held-out videos by clip id, the longest first."""

    def scores(self) -> pd.DataFrame:
        """Give metrics.csv for reading: one row per run, stage and variant, means with 95 % intervals."""
        table = ordered_metrics(self.results)
        if table.empty:
            return table
        metrics = [metric for metric in METRICS.values() if metric.key in table]
        columns = {
            _heading(metric): [_cell(row, metric.key, metric.decimals) for _, row in table.iterrows()]
            for metric in metrics
        }
        index = pd.MultiIndex.from_frame(table[["experiment", "stage", "variant"]])
        return pd.DataFrame(columns, index=index)

    def comparisons(self) -> pd.DataFrame:
        """Give paired differences on the same clips, with 95 % intervals: within the run, then between experiments."""
        pairs: list[tuple[Row, Row]] = [*main_pairs(self.results), *experiment_pairs(self.results)]
        found = difference_table(differences(self.results, pairs), with_experiment=True)
        if found is None:
            return pd.DataFrame()
        rows = [
            {
                "first": row["first"],
                "minus second": row["second"],
                "clips": row["clips"],
                **{metric.label: _difference(row["cells"].get(metric.key)) for metric in found["metrics"]},
            }
            for row in found["rows"]
        ]
        return pd.DataFrame(rows).set_index(["first", "minus second"])

    def video(self, clip_id: str, frames: int | None = None) -> Tensor:
        """Read the first frames of a held-out clip as the model sees them: (1, 3, T, H, W) in [-1, 1].

        Raises:
            UserError: if there is no such clip.
        """
        if clip_id not in self.clips:
            raise UserError(f"no held-out clip {clip_id!r}; there are {', '.join(self.clips)}")
        data, clip = self.results.settings[self.experiment].data, self.clips[clip_id]
        indices = Sampling.of(data).indices(clip)[: frames or LONGEST]
        return to_tensor(resize_crop(read_clip(clip, indices), data.resolution, data.zoom))[None]

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Encode (1, 3, T, H, W) to normalised latents (1, 4, T', H / 8, W / 8): the posterior's mode."""
        return self.model.encode_latents(video.to(self.model.device)).cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Decode normalised latents to (1, 3, num_frames, H, W) in [-1, 1]."""
        return self.model.decode_latents(latents.to(self.model.device), num_frames).clamp(-1, 1).cpu()

    @torch.no_grad()
    def spatial_alone(self, video: Tensor) -> Tensor:
        """Encode and decode (1, 3, T, H, W) frame by frame, without the temporal VAE."""
        return self.model.reconstruct_spatial(video.to(self.model.device)).clamp(-1, 1).cpu()

    def pair(self, chosen: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Read two held-out clips at the same length; the two longest where none are chosen, one twice if it is alone.

        Raises:
            UserError: if not two are chosen, or there is no such clip.
        """
        names = list(chosen or itertools.islice(itertools.cycle(self.clips), 2))
        if len(names) != 2:
            raise UserError(f"{len(names)} clips chosen, two are needed; there are {', '.join(self.clips)}")
        first, second = (self.video(name) for name in names)
        frames = min(first.shape[2], second.shape[2])
        return first[:, :, :frames], second[:, :, :frames]


def open_study(
    config: str,
    folder: str | Path = ".",
    threads: int | None = None,
    device: str = "cpu",
    results: str | Path = "results",
) -> Study:
    """Open the finished run of a config.

    Args:
        config: YAML or JSON file, relative to the folder, or the settings as JSON text.
        folder: the folder in which the workflow ran.
        threads: CPU threads to compute with; torch's own number where there is none.
        device: `cpu`, `cuda` or `auto`.
        results: the results of the workflow, relative to the folder.

    Raises:
        UserError: if the run is not there, has no model of the last stage yet, or held out no video.
    """
    root = Path(folder).resolve()
    settings = load_config(config if is_json_text(config) else root / config)
    tables = load_results(settings, root / results)
    owner = stage_owner(tables.settings, settings.experiment, settings.last)
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_video_vae(root / results / owner / settings.last / "model")
    data = root / results / data_owner(tables.settings, settings.experiment) / "data"
    videos = [clip for clip in read_table(data / "test.csv") if clip.kind == "video"]
    if not videos:
        raise UserError(f"{data / 'test.csv'} holds no video; hold some out by data.split")
    videos.sort(key=lambda clip: (-clip.num_frames, clip.clip_id))
    return Study(
        folder=root,
        experiment=settings.experiment,
        results=tables,
        model=model.eval().requires_grad_(False).to(pick_device(device)),
        clips={clip.clip_id: replace(clip, path=str(root / clip.path)) for clip in videos},
    )


def morph(first: Tensor, second: Tensor) -> Tensor:
    """Interpolate over time from the first latents (1, 4, T', h, w) to the second."""
    weights = torch.linspace(0, 1, first.shape[2]).view(1, 1, -1, 1, 1)
    return torch.lerp(first, second, weights)


def save_clip(path: str | Path, video: Tensor, fps: float = 12.0) -> Path:
    """Write (1, 3, T, H, W) in [-1, 1] as H.264 that every browser plays."""
    write_preview(path, to_uint8(video[0]), fps)
    return Path(path)


def _heading(metric: Metric) -> str:
    return f"{metric.label}{', ' if metric.unit else ''}{metric.unit} {metric.arrow}"


def _cell(row: pd.Series, metric: str, decimals: int) -> str:
    low, high = (number(row.get(f"{metric}_{end}"), decimals) for end in ("low", "high"))
    mean = number(row.get(metric), decimals)
    return mean if MISSING in (low, high) else f"{mean} ({low} to {high})"


def _difference(cell: dict[str, str] | None) -> str:
    if cell is None:
        return MISSING
    return f"{cell['gap']} ({cell['gap_interval']}), {cell['verdict']}" if cell["gap_interval"] else cell["gap"]
