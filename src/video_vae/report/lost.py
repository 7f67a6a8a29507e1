"""Outputs that were deleted after what was made of them: Snakemake does not miss them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from video_vae.config import Scored
from video_vae.config.runs import Runs, evaluation_owner, reconstruction_owner, stage_owner

VARIANTS = {True: ("ori", "rec", "spatial", "preview"), False: ("ori", "mean", "repeat", "preview")}
"""Folders of clips beside the index of a stage's reconstructions, and of the baselines'."""
BASELINES = "baselines"
MAX_NAMED = 3
"""Paths that a line names."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Outputs of one job, or of its shards, that are gone."""

    paths: tuple[str, ...]
    targets: tuple[str, ...]
    """What to ask Snakemake for, with `-f`, to have them made again."""

    @property
    def cure(self) -> str:
        """Return the options of Snakemake that make them again."""
        return f"-f {' '.join(self.targets)}"

    def __str__(self) -> str:
        """Say it in a line."""
        more = f" and {len(self.paths) - MAX_NAMED} more" if len(self.paths) > MAX_NAMED else ""
        gone = f"{', '.join(self.paths[:MAX_NAMED])}{more} {'is' if len(self.paths) == 1 else 'are'} gone"
        return f"{gone}; the scores made of it stay, `snakemake {self.cure}` makes it again"


def lost_outputs(runs: Runs, results: Path) -> list[Lost]:
    """Return what is gone of the models and reconstructions behind the scores that are there, each once."""
    found: dict[Lost, None] = {}
    for name, run in runs.items():
        for stage in (*run.scored, *([None] if run.evaluation.baselines else [])):
            scored = results / evaluation_owner(runs, name, stage) / (stage or BASELINES) / "metrics" / "summary.json"
            if scored.is_file():
                found |= dict.fromkeys(_of_stage(runs, name, stage, results))
    return list(found)


def _of_stage(runs: Runs, name: str, stage: Scored | None, results: Path) -> Iterator[Lost]:
    if stage is not None:
        model = results / stage_owner(runs, name, stage) / stage / "model"
        if not model.is_dir():
            yield Lost(paths=(str(model),), targets=(str(model),))
    owner = reconstruction_owner(runs, name, stage)
    folder = results / owner / (stage or BASELINES)
    shards = [folder / "reconstruction" / f"shard_{n}.csv" for n in range(runs[owner].reconstruction.shards)]
    clips = [folder / f"reconstruction_{variant}" for variant in VARIANTS[stage is not None]]
    lost = [path for path in [*shards, *clips] if not path.exists()]
    if lost:
        again = (
            [path for path in shards if not path.exists()] if not [path for path in clips if path in lost] else shards
        )
        yield Lost(paths=tuple(map(str, lost)), targets=tuple(map(str, again)))
