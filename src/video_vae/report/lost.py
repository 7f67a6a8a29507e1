"""Outputs that were deleted after what was made of them: Snakemake does not miss them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from video_vae.config import Config
from video_vae.config.runs import (
    Part,
    RivalName,
    Runs,
    evaluation_owner,
    latent_bits,
    part_folder,
    reconstruction_owner,
    scored_parts,
    stage_owner,
)
from video_vae.report.typed import typed

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
        again = f"`{typed(self.cure)}` makes it again, and the next run what follows from it"
        return f"{gone}; the scores made of it stay, {again}"


def lost_outputs(runs: Runs, results: Path) -> list[Lost]:
    """Return what is gone of the models and reconstructions behind the scores that are there, each once."""
    found: dict[Lost, None] = {}
    for name, run in runs.items():
        for part in scored_parts(run):
            scored = results / evaluation_owner(runs, name, part) / part_folder(part) / "metrics" / "summary.json"
            if scored.is_file():
                found |= dict.fromkeys(_of_part(runs, name, part, results))
    return list(found)


def _variants(run: Config, part: Part) -> tuple[str, ...]:
    """List the folders of clips beside the index of a part's reconstructions."""
    made = (part,) if isinstance(part, RivalName) else ("rec", "spatial") if part else ("mean", "repeat")
    quantised = run.reconstruction.quantised if latent_bits(run, part) else None
    return ("ori", *made, *([quantised] if quantised else []), "preview")


def _of_part(runs: Runs, name: str, part: Part, results: Path) -> Iterator[Lost]:
    if part is not None and not isinstance(part, RivalName):
        model = results / stage_owner(runs, name, part) / part / "model"
        if not model.is_dir():
            yield Lost(paths=(str(model),), targets=(str(model),))
    owner = reconstruction_owner(runs, name, part)
    folder = results / owner / part_folder(part)
    shards = [folder / "reconstruction" / f"shard_{n}.csv" for n in range(runs[owner].reconstruction.shards)]
    clips = [folder / f"reconstruction_{variant}" for variant in _variants(runs[owner], part)]
    lost = [path for path in [*shards, *clips] if not path.exists()]
    if lost:
        again = (
            [path for path in shards if not path.exists()] if not [path for path in clips if path in lost] else shards
        )
        yield Lost(paths=tuple(map(str, lost)), targets=tuple(map(str, again)))
