"""Every setting, its default, its range and its meaning: the only source. Imports no torch."""

from video_vae.config.data import Columns, Data, Latents, Package, Split
from video_vae.config.model import Model, Spatial, SpatialTraining, Temporal
from video_vae.config.results import Evaluation, Reconstruction, Report
from video_vae.config.rivals import Codec
from video_vae.config.schema import Config, load_config, load_merged, parse_config
from video_vae.config.stages import Discriminator, Stage, Stages
from video_vae.config.types import SCORED, STAGES, START, AdversarialLoss, Checked, Metric, Scored, Settings, StageName

__all__ = [
    "SCORED",
    "STAGES",
    "START",
    "AdversarialLoss",
    "Checked",
    "Codec",
    "Columns",
    "Config",
    "Data",
    "Discriminator",
    "Evaluation",
    "Latents",
    "Metric",
    "Model",
    "Package",
    "Reconstruction",
    "Report",
    "Scored",
    "Settings",
    "Spatial",
    "SpatialTraining",
    "Split",
    "Stage",
    "StageName",
    "Stages",
    "Temporal",
    "load_config",
    "load_merged",
    "parse_config",
]
